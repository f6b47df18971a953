# ruff: noqa: T201 (it runs inside an image and prints for its log)
"""The images' health check: exit 0 when /health on the management port answers 200.

Standard library only, and past any proxy that the environment names: the images have no curl.
"""

import http.client
import os
import sys

TIMEOUT_S = 4  # below the HEALTHCHECK's own timeout, so that the reason can be printed


def main() -> int:
    port = int(os.environ["GATEWAY_SERVER_MANAGEMENT_PORT"])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except OSError as error:
        print(f"/health on port {port} cannot be reached: {error}")
        return 1
    print(f"/health on port {port} answers {status}")
    return int(status != 200)


if __name__ == "__main__":
    sys.exit(main())
