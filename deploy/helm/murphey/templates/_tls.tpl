{{/*
Services and gateway listen beyond loopback with TLS and keys only. Each part finds its certificate in /etc/murphey/tls, as
cert-manager writes it (tls.crt, tls.key, ca.crt), and all services the key by which they know each other in /etc/murphey/internal.
*/}}
{{- define "murphey.tlsSecret" -}}
{{- if .root.Values.tls.certManager.enabled -}}
{{ include "murphey.fullname" .root }}-{{ .name }}-tls
{{- else -}}
{{ .root.Values.tls.secret }}
{{- end -}}
{{- end -}}

{{/* The name by which a part is called: the last of those in its certificate. */}}
{{- define "murphey.host" -}}
{{ include "murphey.fullname" .root }}-{{ .name }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end -}}

{{- define "murphey.dnsNames" -}}
{{- $name := printf "%s-%s" (include "murphey.fullname" .root) .name -}}
{{- $namespace := .root.Release.Namespace -}}
{{- list "localhost" $name (printf "%s.%s" $name $namespace) (printf "%s.%s.svc" $name $namespace) (include "murphey.host" .) | toJson -}}
{{- end -}}

{{/* What all services have set to speak TLS. */}}
{{- define "murphey.tlsEnvironment" -}}
MURPHEY_TLS_CERTIFICATE: /etc/murphey/tls/tls.crt
MURPHEY_TLS_KEY: /etc/murphey/tls/tls.key
MURPHEY_TLS_CA: /etc/murphey/tls/ca.crt
{{- if .root.Values.tls.mutual }}
MURPHEY_TLS_CLIENT_CA: /etc/murphey/tls/ca.crt
{{- end }}
MURPHEY_INTERNAL_KEY_FILE: /etc/murphey/internal/key
{{- end -}}

{{/* The gateway's settings for the same; towards its own clients it asks for keys, not for certificates. */}}
{{- define "murphey.gatewayTls" -}}
{{- $settings := dict "auth" "keys" "tls_certificate" "/etc/murphey/tls/tls.crt" "tls_key" "/etc/murphey/tls/tls.key" "services_ca" "/etc/murphey/tls/ca.crt" -}}
{{- if .root.Values.tls.mutual -}}
{{- $settings = merge $settings (dict "services_certificate" "/etc/murphey/tls/tls.crt" "services_key" "/etc/murphey/tls/tls.key") -}}
{{- end -}}
{{- $settings | toJson -}}
{{- end -}}

{{- define "murphey.tlsMounts" -}}
- {name: tls, mountPath: /etc/murphey/tls, readOnly: true} # whole folders: what is renewed appears there without a restart
{{- if ne .name "gateway" }}
- {name: internal, mountPath: /etc/murphey/internal, readOnly: true}
{{- end }}
{{- end -}}

{{- define "murphey.tlsVolumes" -}}
- name: tls
  secret:
    secretName: {{ include "murphey.tlsSecret" . }}
    defaultMode: 0440
{{- if ne .name "gateway" }}
- name: internal
  secret:
    secretName: {{ .root.Values.internalKey.secret }}
    defaultMode: 0440
    items:
      - {key: {{ .root.Values.internalKey.key | quote }}, path: key}
{{- end }}
{{- end -}}

{{/*
Kubelet's own gRPC probe speaks no TLS, so the images' grpc-health-probe asks, as any caller would: by the part's name, with its
authority and, where services ask for one, a certificate.
*/}}
{{- define "murphey.healthCommand" -}}
{{- $part := include "murphey.part" . | fromJson -}}
exec:
  command:
    - {{ ternary "/grpc-health-probe" "grpc-health-probe" (eq .name "gateway") }}
    - -addr=127.0.0.1:{{ $part.port }}
    - -connect-timeout=2s
    - -rpc-timeout=2s
    - -tls
    - -tls-ca-cert=/etc/murphey/tls/ca.crt
    - -tls-server-name={{ include "murphey.host" . }}
    {{- if eq .name "gateway" }}
    - -service=murphey.orchestrator.v1.OrchestratorService
    {{- else if .root.Values.tls.mutual }}
    - -tls-client-cert=/etc/murphey/tls/tls.crt
    - -tls-client-key=/etc/murphey/tls/tls.key
    {{- end }}
{{- end -}}
