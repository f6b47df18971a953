{{/* The application's --config file: what the chart knows, then the user's own settings over it. */}}
{{- define "gateway.config" -}}
{{- $server := dict "drain_timeout_s" .Values.drainSeconds -}}
{{- $engine := dict "tensor_parallel_size" (max 1 (int .Values.gpu.count)) -}}
{{- $model := dict -}}
{{- if .Values.model.claim -}}
{{- $_ := set $model "path" "/model" -}}
{{- else if .Values.model.fetch.enabled -}}
{{- $_ := set $model "path" .Values.model.fetch.repository -}}
{{- $_ := set $model "revision" .Values.model.fetch.revision -}}
{{- end -}}
{{- $chart := dict "profile" .Values.profile "server" $server "engine" $engine "auth" (dict "keys_file" "/run/keys/keys.yaml") "log" (dict "format" "json") -}}
{{- if $model -}}
{{- $_ := set $chart "model" $model -}}
{{- end -}}
{{- if .Values.usage.claim -}}
{{- $_ := set $chart "usage" (dict "directory" "/usage") -}}
{{- end -}}
{{- mergeOverwrite $chart (deepCopy .Values.config) | toYaml -}}
{{- end -}}

{{/* What a schema cannot say: two values that cannot go together. */}}
{{- define "gateway.check" -}}
{{- if and (not .Values.keys.existingSecret) (not .Values.keys.entries) -}}
{{- fail "keys: name a Secret in keys.existingSecret, or give keys.entries; there is no default key." -}}
{{- end -}}
{{- if and .Values.keys.existingSecret (or .Values.keys.entries .Values.keys.tenants) -}}
{{- fail "keys: existingSecret has the whole key file; entries and tenants beside it would be ignored." -}}
{{- end -}}
{{- if and .Values.model.claim .Values.model.fetch.enabled -}}
{{- fail "model: a claim has the checkpoint already; switch model.fetch.enabled off." -}}
{{- end -}}
{{- if and .Values.model.fetch.enabled (not .Values.model.fetch.repository) -}}
{{- fail "model.fetch.repository: which model is to be fetched?" -}}
{{- end -}}
{{- $several := or (gt (int .Values.replicas) 1) (gt (int .Values.maxSurge) 0) (ne .Values.autoscaling.kind "none") .Values.multiNode.enabled -}}
{{- if and $several (eq .Values.cache.type "persistentVolumeClaim") (not .Values.cache.claim) (ne .Values.cache.accessMode "ReadWriteMany") -}}
{{- fail "cache.accessMode: several pods share the cache (replicas, maxSurge, autoscaling or multiNode), which needs ReadWriteMany (or cache.type: emptyDir)." -}}
{{- end -}}
{{- if hasKey .Values.resources.limits .Values.gpu.resource -}}
{{- fail (printf "resources.limits: %s is set by gpu.count." .Values.gpu.resource) -}}
{{- end -}}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) -}}
{{- fail "autoscaling.minReplicas: is more than autoscaling.maxReplicas." -}}
{{- end -}}
{{- if and .Values.multiNode.enabled (ne .Values.autoscaling.kind "none") -}}
{{- fail "autoscaling.kind: a multi-node group is not scaled by this chart; use none." -}}
{{- end -}}
{{- if and .Values.inferencePool.enabled (not .Values.inferencePool.endpointPicker.name) -}}
{{- fail "inferencePool.endpointPicker.name: which Service picks the endpoint?" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parents) -}}
{{- fail "httpRoute.parents: which Gateway is the route for?" -}}
{{- end -}}
{{- if .Values.networkPolicy.enabled -}}
{{- if and (or .Values.monitoring.serviceMonitor.enabled .Values.inferencePool.enabled (ne .Values.autoscaling.kind "none")) (not .Values.networkPolicy.monitoring) -}}
{{- fail "networkPolicy.monitoring: name the peers that read /metrics (Prometheus, which an autoscaler asks too, or the endpoint picker); nobody is let in." -}}
{{- end -}}
{{- if and .Values.sharedLimits.redisSecret (not .Values.networkPolicy.redis.peers) -}}
{{- fail "networkPolicy.redis.peers: where is Redis? Without a peer nothing is let out to it, and the pods would end with code 4." -}}
{{- end -}}
{{- if and (dig "tracing" "otlp_endpoint" "" .Values.config) (not .Values.networkPolicy.tracing.peers) -}}
{{- fail "networkPolicy.tracing.peers: where is the collector of config.tracing.otlp_endpoint? Nothing is let out to it." -}}
{{- end -}}
{{- end -}}
{{- end -}}
