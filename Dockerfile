# Two images from one file:
#   docker build --target gpu -t w8a8-gateway:0.1.0-gpu .    the gateway on vLLM's own CUDA image
#   docker build --target cpu -t w8a8-gateway:0.1.0-cpu .    the CPU build, with the bundled model
# Both run as uid 10001 (or any other), on a read-only root file system; only /cache, /tmp and,
# where usage records are wanted, /usage are written. There is no shell in the start-up path.

# ---------------------------------------------------------------------------- gpu
# The tag is the vLLM version that requirements/cuda.in pins; a test compares them. vLLM needs most of
# requirements/gateway.in itself; what it does not is added in a folder of its own, and another test
# knows the list.
FROM vllm/vllm-openai:v0.32.0 AS gpu

ARG REVISION=unknown
LABEL org.opencontainers.image.title="w8a8-gateway" \
      org.opencontainers.image.description="OpenAI-compatible gateway for INT8 W8A8 models on vLLM (CUDA)" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/vllm/vllm-openai:v0.32.0"

# A fixed uid for host permissions and Kubernetes; /cache is open like /tmp, so that the container
# can also be run as the host user who owns the key file.
RUN groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /cache --shell /usr/sbin/nologin gateway \
    && install -d -m 1777 /cache /usage

WORKDIR /srv/gateway
COPY deploy/image requirements/gateway.in requirements/cuda.lock /srv/image/
ENV PYTHONPATH=/srv/gateway:/srv/packages
RUN ["python3", "/srv/image/add_packages.py", "/srv/image/cuda.lock", "/srv/packages", "redis", "hiredis"]
COPY config config
COPY app app
RUN ["python3", "/srv/image/check_packages.py", "/srv/image/gateway.in", "vllm==0.32.0"]

# What is downloaded or compiled goes to one volume; usage reports to third parties are off.
ENV HOME=/cache \
    USER=gateway \
    XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    VLLM_CACHE_ROOT=/cache/vllm \
    VLLM_CONFIG_ROOT=/cache/vllm/config \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    TRITON_CACHE_DIR=/cache/triton \
    FLASHINFER_WORKSPACE_BASE=/cache \
    VLLM_NO_USAGE_STATS=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    GATEWAY_SERVER_MANAGEMENT_HOST=0.0.0.0 \
    GATEWAY_SERVER_MANAGEMENT_PORT=9000

USER 10001:10001
VOLUME ["/cache"]
EXPOSE 8000 9000
# Unhealthy means that the process or its engine is dead; a model that still loads is healthy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "/srv/image/healthcheck.py"]
ENTRYPOINT ["python3", "-m", "app"]
CMD ["serve"]

# ---------------------------------------------------------------------------- cpu-environment
FROM python:3.11-slim-bookworm AS cpu-environment

WORKDIR /srv/gateway
COPY requirements requirements
# The same set-up as `make serve` on a machine without a GPU: one place knows where torch comes from.
ENV BUILD=cpu \
    PIP_NO_CACHE_DIR=1
RUN ["python3", "requirements/environment.py", "engine"]

# ---------------------------------------------------------------------------- cpu
FROM python:3.11-slim-bookworm AS cpu

ARG REVISION=unknown
LABEL org.opencontainers.image.title="w8a8-gateway" \
      org.opencontainers.image.description="OpenAI-compatible gateway for INT8 W8A8 models on vLLM (CPU), with a small demonstration model" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm"

# vLLM's CPU kernels link to libnuma and libstdc++; the base image's release pins what apt gets.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /cache --shell /usr/sbin/nologin gateway \
    && install -d -m 1777 /cache /usage

WORKDIR /srv/gateway
COPY --from=cpu-environment /srv/gateway/.venv .venv
COPY deploy/image/healthcheck.py /srv/image/
COPY models/bundled/w8a8 models/bundled/w8a8
COPY config config
COPY app app

# No torch.compile: on a CPU it calls a C++ compiler, and a slim image has none. Eager is not enough,
# vLLM compiles what counts ranks for logprobs all the same, and the engine would die of it.
ENV PATH=/srv/gateway/.venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/cache \
    USER=gateway \
    XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    VLLM_CACHE_ROOT=/cache/vllm \
    VLLM_CONFIG_ROOT=/cache/vllm/config \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    VLLM_NO_USAGE_STATS=1 \
    PYTHONPATH=/srv/gateway \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    GATEWAY_ENGINE_ENFORCE_EAGER=true \
    TORCH_COMPILE_DISABLE=1 \
    GATEWAY_SERVER_MANAGEMENT_HOST=0.0.0.0 \
    GATEWAY_SERVER_MANAGEMENT_PORT=9000

USER 10001:10001
VOLUME ["/cache"]
EXPOSE 8000 9000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "/srv/image/healthcheck.py"]
ENTRYPOINT ["python3", "-m", "app"]
CMD ["serve"]
