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
        - {name: {{ ternary "grpc" "http" $python }}, containerPort: {{ $part.port }}}
        {{- if $part.metrics }}
        - {name: metrics, containerPort: {{ $part.metrics }}}
        {{- end }}
      envFrom:
        - configMapRef:
            name: {{ include "murphey.fullname" $root }}-{{ .name }}
      env:
        {{- if $python }}
        - {name: HOME, value: /tmp}
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
      {{- if $python }}
      volumeMounts:
        - {name: data, mountPath: /data}
        - {name: tmp, mountPath: /tmp}
        {{- if $models }}
        - {name: models, mountPath: /models}
        {{- end }}
      {{- end }}
  {{- if $python }}
  volumes:
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
are away, and a gateway whose services are, would be restarted in vain, so for them the port must answer.
*/}}
{{- define "murphey.probes" -}}
{{- $part := include "murphey.part" . | fromJson -}}
{{- $grpc := dict "port" $part.port -}}
{{- if eq .name "gateway" }}{{ $_ := set $grpc "service" "murphey.orchestrator.v1.OrchestratorService" }}{{ end -}}
startupProbe: # models are loaded, and converted where this is the first time
  {{- if eq .name "gateway" }}
  tcpSocket:
    port: {{ $part.port }}
  {{- else }}
  grpc: {{- toYaml $grpc | nindent 4 }}
  {{- end }}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: {{ div .values.startSeconds 5 }}
readinessProbe:
  grpc: {{- toYaml $grpc | nindent 4 }}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
livenessProbe:
  {{- if has .name (list "gateway" "generator") }}
  tcpSocket:
    port: {{ $part.port }}
  {{- else }}
  grpc: {{- toYaml $grpc | nindent 4 }}
  {{- end }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}
