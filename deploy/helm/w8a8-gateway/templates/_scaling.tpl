{{/* How an autoscaler may move: up at once, as a pod takes minutes to load; down slowly, for the same reason. */}}
{{- define "gateway.scaling" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - type: Pods
      value: 2
      periodSeconds: 120
scaleDown:
  stabilizationWindowSeconds: {{ .Values.autoscaling.scaleDownSeconds }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: 120
{{- end -}}
