{{- define "sealift.labels" -}}
app.kubernetes.io/name: sealift
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | trunc 63 | trimAll "._-" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "sealift.selector" -}}
app.kubernetes.io/name: sealift
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "sealift.instance" -}}
production-{{ substr 0 12 .Values.model.digest }}
{{- end }}

{{- define "sealift.pod-security" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "sealift.security" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "sealift.engine-environment" -}}
- {name: HF_HUB_OFFLINE, value: "1"}
- {name: TRANSFORMERS_OFFLINE, value: "1"}
- {name: HF_DATASETS_OFFLINE, value: "1"}
- {name: HF_HUB_DISABLE_TELEMETRY, value: "1"}
- {name: VLLM_NO_USAGE_STATS, value: "1"}
- {name: DO_NOT_TRACK, value: "1"}
- {name: HOME, value: /tmp}
# No runtime has to know a name for the pod's user; libraries of vLLM's ask for one.
- {name: USER, value: sealift}
{{- end }}

{{- define "sealift.ray-environment" -}}
- {name: RAY_USE_TLS, value: "1"}
- {name: RAY_TLS_SERVER_CERT, value: /tls/tls.crt}
- {name: RAY_TLS_SERVER_KEY, value: /tls/tls.key}
- {name: RAY_TLS_CA_CERT, value: /tls/ca.crt}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
# Where `prove` linked the version on every node.
- {name: SEALIFT_RAY_MODEL, value: /model}
- {name: VLLM_HOST_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
{{- end }}

{{- define "sealift.engine-resources" -}}
{{- $resources := deepCopy .Values.engine.resources }}
{{- if .Values.engine.gpus }}
{{- $limits := merge (dict "nvidia.com/gpu" .Values.engine.gpus) (default dict $resources.limits) }}
{{- $resources = merge (dict "limits" $limits) $resources }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{- define "sealift.data" -}}
- {name: data, mountPath: /var/lib/sealift/store, subPath: store, readOnly: true}
- {name: data, mountPath: /var/lib/sealift/promoter, subPath: promoter, readOnly: true}
- {name: data, mountPath: /var/lib/sealift/registry, subPath: registry, readOnly: true}
{{- end }}

{{- define "sealift.asks" -}}
[python, -I, -m, appliance.actions.kubernetes.pod, ask-gateway, {{ .path }}, "{{ .port }}"]
{{- end }}

{{- define "sealift.launcher" -}}
python -I -m appliance.serve.launcher --config /etc/sealift/sealift.toml --instance {{ include "sealift.instance" . }}
{{- end }}
