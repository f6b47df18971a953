{{- define "gateway.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "gateway.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "gateway.resources" -}}
requests:
  {{- toYaml .Values.resources.requests | nindent 2 }}
limits:
  {{- toYaml .Values.resources.limits | nindent 2 }}
  {{- if gt (int .Values.gpu.count) 0 }}
  {{ .Values.gpu.resource }}: {{ .Values.gpu.count }}
  {{- end }}
{{- end -}}

{{/* The hub's variables; `offline` says that nothing may be asked of it. */}}
{{- define "gateway.hubEnv" -}}
{{- if .offline }}
- name: HF_HUB_OFFLINE
  value: "1"
{{- end }}
{{- with .root.Values.hub }}
{{- if and .tokenSecret (not $.offline) }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .tokenSecret }}
      key: {{ .tokenKey }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What every engine needs, on a group's other nodes too. */}}
{{- define "gateway.engineEnv" -}}
{{ include "gateway.hubEnv" . }}
{{- range $name, $value := .root.Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "gateway.env" -}}
{{- with .root.Values.sharedLimits }}
{{- if .redisSecret }}
- name: GATEWAY_LIMITS_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .redisSecret }}
      key: {{ .urlKey }}
{{- end }}
{{- end }}
{{- with .root.Values }}
{{- if .multiNode.enabled }}
{{- $group := printf "--distributed-executor-backend mp --nnodes %d --node-rank 0 --master-addr $(LWS_LEADER_ADDRESS) --pipeline-parallel-size %d" (int .multiNode.size) (int .multiNode.pipelineParallelSize) }}
- name: EXTRA_ARGS
  value: {{ list $group (dig "engine" "extra_args" "" .config) | join " " | trim | quote }}
{{- end }}
{{- end }}
{{ include "gateway.engineEnv" . }}
{{- end -}}

{{- define "gateway.mounts" -}}
- name: cache
  mountPath: /cache
- name: tmp
  mountPath: /tmp
{{- end -}}

{{- define "gateway.engineMounts" -}}
{{ include "gateway.mounts" . }}
- name: shm
  mountPath: /dev/shm
{{- if .Values.model.claim }}
- name: model
  mountPath: /model
  readOnly: true
  {{- with .Values.model.subPath }}
  subPath: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "gateway.volumes" -}}
- name: cache
  {{- if eq .Values.cache.type "emptyDir" }}
  emptyDir:
    sizeLimit: {{ .Values.cache.size }}
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ .Values.cache.claim | default (printf "%s-cache" (include "gateway.name" .)) }}
  {{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.tmpSize }}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.shmSize }}
{{- with .Values.model.claim }}
- name: model
  persistentVolumeClaim:
    claimName: {{ . }}
    readOnly: true
{{- end }}
{{- end -}}

{{- define "gateway.placement" -}}
serviceAccountName: {{ include "gateway.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.gpu.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and .Values.gpu.products (gt (int .Values.gpu.count) 0) }}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            - key: nvidia.com/gpu.product
              operator: In
              values:
                {{- toYaml .Values.gpu.products | nindent 16 }}
{{- end }}
{{- if or .Values.tolerations (gt (int .Values.gpu.count) 0) }}
tolerations:
  {{- if gt (int .Values.gpu.count) 0 }}
  {{- range list "nvidia.com/gpu" .Values.gpu.resource | uniq }}
  - key: {{ . }}
    operator: Exists
    effect: NoSchedule
  {{- end }}
  {{- end }}
  {{- with .Values.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- if .Values.topologySpread.enabled }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: {{ .Values.topologySpread.topologyKey }}
    whenUnsatisfiable: {{ .Values.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "gateway.selector" . | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Without the chart's version, or a new chart would load every model anew for nothing. */}}
{{- define "gateway.podMetadata" -}}
labels:
  {{- include "gateway.selector" . | nindent 2 }}
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/config: {{ include "gateway.config" . | sha256sum }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The pod that answers requests: the Deployment's, and the leader of a multi-node group. */}}
{{- define "gateway.pod" -}}
{{- $offline := or .Values.hub.offline .Values.model.fetch.enabled (ne .Values.model.claim "") -}}
{{ include "gateway.placement" . }}
securityContext:
  {{- include "gateway.podSecurity" . | nindent 2 }}
# Leaving the Service, then the drain, then half a minute to stop the engine.
terminationGracePeriodSeconds: {{ add .Values.preStopSeconds .Values.drainSeconds 30 }}
{{- if .Values.model.fetch.enabled }}
initContainers:
  - name: fetch-model
    image: {{ include "gateway.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: [hf, download, {{ .Values.model.fetch.repository | quote }}, --revision, {{ .Values.model.fetch.revision | quote }}]
    {{- with include "gateway.hubEnv" (dict "root" . "offline" false) | trim }}
    env:
      {{- . | nindent 6 }}
    {{- end }}
    securityContext:
      {{- include "gateway.containerSecurity" . | nindent 6 }}
    resources:
      requests:
        cpu: "1"
        memory: 1Gi
      limits:
        memory: 4Gi
    volumeMounts:
      {{- include "gateway.mounts" . | nindent 6 }}
{{- end }}
containers:
  - name: gateway
    image: {{ include "gateway.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [serve, --config, /etc/gateway/gateway.yaml]
    {{- with include "gateway.env" (dict "root" . "offline" $offline) | trim }}
    env:
      {{- . | nindent 6 }}
    {{- end }}
    ports:
      - name: api
        containerPort: 8000
      - name: management
        containerPort: 9000
    # /health answers within seconds and stays 200 while the model loads; /ready waits for it. So
    # liveness never kills a long download, and no request meets a model that is not there.
    startupProbe:
      httpGet:
        path: /health
        port: management
      periodSeconds: 2
      timeoutSeconds: 5
      failureThreshold: 60
    livenessProbe:
      httpGet:
        path: /health
        port: management
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 3
    readinessProbe:
      httpGet:
        path: /ready
        port: management
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: 2
    lifecycle:
      preStop:
        sleep:
          seconds: {{ .Values.preStopSeconds }}
    securityContext:
      {{- include "gateway.containerSecurity" . | nindent 6 }}
    resources:
      {{- include "gateway.resources" . | nindent 6 }}
    volumeMounts:
      - name: config
        mountPath: /etc/gateway
        readOnly: true
      - name: keys
        mountPath: /run/keys
        readOnly: true
      {{- if .Values.usage.claim }}
      - name: usage
        mountPath: /usage
      {{- end }}
      {{- include "gateway.engineMounts" . | nindent 6 }}
volumes:
  - name: config
    configMap:
      name: {{ include "gateway.name" . }}
  - name: keys
    secret:
      secretName: {{ include "gateway.keysSecret" . }}
      defaultMode: 0440
      items:
        - key: keys.yaml
          path: keys.yaml
  {{- with .Values.usage.claim }}
  - name: usage
    persistentVolumeClaim:
      claimName: {{ . }}
  {{- end }}
  {{- include "gateway.volumes" . | nindent 2 }}
{{- end -}}
