{{- define "vqtok.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "vqtok.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "vqtok.labels" -}}
{{ include "vqtok.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* The seconds after SIGKILL is due. A request that is accepted last, at the end of drain_delay,
may take all of its timeout. */ -}}
{{- define "vqtok.grace" -}}
{{- $least := addf .Values.preStopSeconds .Values.settings.drain_delay .Values.settings.timeout | ceil | int -}}
{{- $given := .Values.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $given -}}
{{- add $least 10 -}}
{{- else if le (int $given) $least -}}
{{- fail (printf "terminationGracePeriodSeconds is %d; it must be more than preStopSeconds + settings.drain_delay + settings.timeout = %d, or requests are cut off" (int $given) $least) -}}
{{- else -}}
{{- int $given -}}
{{- end -}}
{{- end -}}

{{- /* What `vqtok serve --config` reads. `models` is put together by hand, since toYaml would sort
it, and the first is the one of paths without a name. */ -}}
{{- define "vqtok.settings" -}}
{{- range tuple "models" "host" "port" "api_key" "api_key_file" -}}
{{- if hasKey $.Values.settings . -}}
{{- fail (printf "settings.%s: the chart sets that itself; see its values models, service and auth" .) -}}
{{- end -}}
{{- end -}}
{{- $settings := deepCopy .Values.settings -}}
{{- if and (gt (int .Values.gpu.count) 0) (not (hasKey $settings "devices")) (not (hasKey $settings "device")) -}}
{{- $settings = set $settings "devices" "all" -}}
{{- end -}}
models:
{{- range .Values.models }}
  {{ .name }}: {{ omit . "name" | toJson }}
{{- end }}
{{ toYaml $settings }}
{{- end -}}
