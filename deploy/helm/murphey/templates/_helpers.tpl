{{/* What every part needs to know of itself: `root`, `name`, `values`, `port`, `metrics` (0: none), `health` (a gRPC service, "" for all). */}}
{{- define "murphey.part" -}}
{{- $ports := dict "gateway" 7400 "orchestrator" 7401 "retriever" 7402 "generator" 7403 "ingest" 7404 -}}
{{- $port := get $ports .name -}}
{{- $metrics := ternary 0 (add $port 10) (eq .name "gateway") -}}
{{- dict "port" $port "metrics" $metrics | toJson -}}
{{- end -}}

{{- define "murphey.fullname" -}}
{{- .Values.fullnameOverride | default (ternary .Release.Name (printf "%s-murphey" .Release.Name) (contains "murphey" .Release.Name)) | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "murphey.selector" -}}
app.kubernetes.io/name: murphey
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "murphey.labels" -}}
{{ include "murphey.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "murphey.image" -}}
{{- $image := .root.Values.image -}}
{{- $name := printf "%s%s" $image.prefix .name -}}
{{- with $image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{ $name }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{/* `host:port` of a service, for round_robin over the pods that its headless name resolves to. */}}
{{- define "murphey.target" -}}
{{- $part := include "murphey.part" . | fromJson -}}
dns:///{{ include "murphey.host" . }}:{{ $part.port }}
{{- end -}}

{{/* A part's settings by their names, as JSON: what the chart must decide, then what the values say, then defaults. */}}
{{- define "murphey.settings" -}}
{{- $part := include "murphey.part" . | fromJson -}}
{{- $root := .root -}}
{{- $target := dict -}}
{{- range list "orchestrator" "retriever" "generator" "ingest" -}}
{{- $_ := set $target . (include "murphey.target" (dict "root" $root "name" .)) -}}
{{- end -}}
{{- $fixed := dict "drain_s" .values.drainSeconds -}}
{{- $default := dict -}}
{{- if eq .name "gateway" -}}
{{- $hosts := list -}}
{{- $hosts = include "murphey.dnsNames" . | fromJsonArray -}}
{{- if .root.Values.ingress.enabled }}{{ $hosts = append $hosts .root.Values.ingress.host }}{{ end -}}
{{- $_ := set $fixed "listen" (printf "%s:%v" .root.Values.listen $part.port) -}}
{{- $_ := set $fixed "allowed_hosts" (concat $hosts .values.allowedHosts | uniq | join ",") -}}
{{- $fixed = merge $fixed (include "murphey.gatewayTls" . | fromJson) -}}
{{- $_ := set $default "log_level" .root.Values.settings.log_level -}}
{{- $default = merge $default $target -}}
{{- else -}}
{{- $_ := set $fixed "port" $part.port -}}
{{- $_ := set $fixed "metrics_port" $part.metrics -}}
{{- if eq .name "orchestrator" }}{{ $default = pick $target "retriever" "generator" "ingest" }}{{ end -}}
{{- if eq .name "ingest" }}{{ $default = pick $target "retriever" }}{{ end -}}
{{- if eq .name "retriever" }}{{ $default = dict "store" "server" "qdrant_url" .root.Values.qdrant.url "qdrant_grpc_port" .root.Values.qdrant.grpcPort }}{{ end -}}
{{- if and (eq .name "generator") .root.Values.modelServer.enabled -}}
{{- $server := .root.Values.modelServer -}}
{{- $url := printf "http://%s-model.%s.svc.%s:%v%s" (include "murphey.fullname" .root) .root.Release.Namespace .root.Values.clusterDomain $server.port $server.path -}}
{{- $default = dict "engine" "openai" "urls" (list $url) "model" $server.model "dialect" $server.dialect -}}
{{- end -}}
{{- end -}}
{{- merge $fixed .values.settings $default | toJson -}}
{{- end -}}

{{/* Settings as environment variables: text as it is, everything else as JSON. */}}
{{- define "murphey.environment" -}}
{{- $prefix := printf "MURPHEY_%s_" (upper .name) -}}
{{- if ne .name "gateway" }}
MURPHEY_HOST: {{ .root.Values.listen | quote }}
MURPHEY_METRICS_HOST: {{ .root.Values.listen | quote }}
MURPHEY_DATA: /data
MURPHEY_MODELS: /models
{{ include "murphey.tlsEnvironment" . }}
{{- range $key, $value := .root.Values.settings }}
MURPHEY_{{ upper $key }}: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}
{{- range $key, $value := include "murphey.settings" . | fromJson }}
{{ $prefix }}{{ upper $key }}: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end -}}

{{/* Settings that are secrets, by their names: where each stands. */}}
{{- define "murphey.secrets" -}}
{{- $default := dict -}}
{{- if has .name (list "orchestrator" "ingest") -}}
{{- $default = dict "database_url" (dict "name" .root.Values.postgres.secret "key" .root.Values.postgres.key) -}}
{{- end -}}
{{- if and (eq .name "retriever") .root.Values.qdrant.secret -}}
{{- $default = dict "qdrant_api_key" (dict "name" .root.Values.qdrant.secret "key" .root.Values.qdrant.key) -}}
{{- end -}}
{{- merge (dict) .values.secretSettings $default | toJson -}}
{{- end -}}

{{- define "murphey.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "murphey.metadata" -}}
name: {{ include "murphey.fullname" .root }}-{{ .name }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "murphey.labels" . | nindent 2 }}
{{- end -}}
