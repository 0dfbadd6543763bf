{{/* The pod of a part. */}}
{{- define "murphey.pod" -}}
{{- $part := include "murphey.part" . | fromJson -}}
{{- $root := .root -}}
{{- $python := ne .name "gateway" -}}
{{- $models := and $python (ne .name "orchestrator") -}}
metadata:
  labels: {{- include "murphey.labels" . | nindent 4 }}
  annotations:
    checksum/settings: {{ include "murphey.environment" . | sha256sum }}
    {{- if and $part.metrics $root.Values.metrics.annotations }}
    prometheus.io/scrape: "true"
    prometheus.io/port: {{ $part.metrics | quote }}
    {{- end }}
    {{- with .values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "murphey.fullname" $root }}
  automountServiceAccountToken: false
  # Else the Service "murphey-gateway" and its like would set MURPHEY_…_PORT and be read as settings.
  enableServiceLinks: false
  # Out of the load balancer, then the calls that run, then what the service closes.
  terminationGracePeriodSeconds: {{ add $root.Values.preStopSeconds .values.drainSeconds 20 }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "murphey.selector" $ | nindent 10 }}
    {{- end }}
  {{- with .values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and $models .values.pullModels }}
  initContainers:
    {{- range $index, $model := .values.pullModels }}
    - name: pull-model-{{ $index }}
      image: {{ include "murphey.image" $ }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: [murphey, models, pull, {{ $model | quote }}]
      env:
        - {name: MURPHEY_MODELS, value: /models}
        - {name: HOME, value: /tmp}
      securityContext: {{- include "murphey.containerSecurity" $ | nindent 8 }}
      resources: {{- toYaml $.values.resources | nindent 8 }}
      volumeMounts:
        - {name: models, mountPath: /models}
        - {name: tmp, mountPath: /tmp}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ include "murphey.image" . }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      ports:
        - {name: {{ ternary "tls-grpc" "https" $python }}, containerPort: {{ $part.port }}}
        {{- if $part.metrics }}
        - {name: metrics, containerPort: {{ $part.metrics }}}
        {{- end }}
      envFrom:
        - configMapRef:
            name: {{ include "murphey.fullname" $root }}-{{ .name }}
      env:
        {{- if $python }}
        - {name: HOME, value: /tmp}
        - name: MURPHEY_KEYS_DATABASE_URL # API keys, for `murphey keys` in the pod too
          valueFrom:
            secretKeyRef:
              name: {{ $root.Values.postgres.secret }}
              key: {{ $root.Values.postgres.key }}
        {{- end }}
        {{- if $models }}
        - {name: HF_HOME, value: /models/huggingface}
        {{- end }}
        {{- range $key, $secret := include "murphey.secrets" . | fromJson }}
        - name: MURPHEY_{{ upper $.name }}_{{ upper $key }}
          valueFrom:
            secretKeyRef:
              name: {{ $secret.name }}
              key: {{ $secret.key }}
        {{- end }}
        {{- with .values.env }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- include "murphey.probes" . | nindent 6 }}
      lifecycle:
        preStop: # until every load balancer has heard that this pod is going
          sleep:
            seconds: {{ $root.Values.preStopSeconds }}
      securityContext: {{- include "murphey.containerSecurity" . | nindent 8 }}
      resources: {{- toYaml .values.resources | nindent 8 }}
      volumeMounts:
        {{- include "murphey.tlsMounts" . | nindent 8 }}
        {{- if $python }}
        - {name: data, mountPath: /data}
        - {name: tmp, mountPath: /tmp}
        {{- end }}
        {{- if $models }}
        - {name: models, mountPath: /models}
        {{- end }}
  volumes:
    {{- include "murphey.tlsVolumes" . | nindent 4 }}
    {{- if $python }}
    {{- if ne .name "ingest" }}
    - name: data
      emptyDir: {}
    {{- end }}
    - name: tmp
      emptyDir: {}
    {{- if $models }}
    - name: models
      {{- if $root.Values.models.claim }}
      persistentVolumeClaim:
        claimName: {{ $root.Values.models.claim }}
      {{- else }}
      emptyDir:
        sizeLimit: {{ $root.Values.models.sizeLimit }}
      {{- end }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/*
Ready: the service says SERVING. Alive: the same, except where health also tells of others: a generator whose model servers
are away, and a gateway whose services are, would be restarted in vain, so of the one the port must answer, and of the other HTTP.
*/}}
{{- define "murphey.probes" -}}
{{- $part := include "murphey.part" . | fromJson -}}
startupProbe: # models are loaded, and converted where this is the first time
  {{- if eq .name "gateway" }}
  {{- include "murphey.gatewayAlive" $part | nindent 2 }}
  {{- else }}
  {{- include "murphey.healthCommand" . | nindent 2 }}
  {{- end }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div .values.startSeconds 5 }}
readinessProbe:
  {{- include "murphey.healthCommand" . | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  {{- if eq .name "gateway" }}
  {{- include "murphey.gatewayAlive" $part | nindent 2 }}
  {{- else if eq .name "generator" }}
  tcpSocket:
    port: {{ $part.port }}
  {{- else }}
  {{- include "murphey.healthCommand" . | nindent 2 }}
  {{- end }}
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* Kubelet does not look at the certificate; a port that is opened and closed would be logged as a failed handshake. */}}
{{- define "murphey.gatewayAlive" -}}
httpGet:
  path: /openapi.json
  port: {{ .port }}
  scheme: HTTPS
  httpHeaders:
    - {name: Host, value: localhost}
{{- end -}}
