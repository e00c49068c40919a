{{/* What all pods have: the restricted standard, no token of Kubernetes, no variables of other Services. */}}
{{- define "refold.pod" -}}
serviceAccountName: {{ include "refold.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "refold.container" -}}
image: {{ include "refold.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
# Why a process ended, in words, is in the status of its pod.
terminationMessagePolicy: FallbackToLogsOnError
{{- end -}}

{{/* Where pods run: (list . component values). */}}
{{- define "refold.placement" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- if $values.affinity }}
  {{- toYaml $values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "refold.selector" (list $root (index . 1)) | nindent 14 }}
  {{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "refold.selector" (list $root (index . 1)) | nindent 8 }}
{{- end -}}

{{/* Requests and limits, with memory a quarter above what the process is told to take: (list memoryMb resources). */}}
{{- define "refold.resources" -}}
{{- $memory := dict "memory" (printf "%dMi" (add (div (mul (int (index . 0)) 5) 4) 32)) -}}
{{- $resources := deepCopy (index . 1) -}}
{{- toYaml (merge $resources (dict "requests" $memory "limits" (deepCopy $memory))) -}}
{{- end -}}

{{/* Variables of a process: (list . component settings). */}}
{{- define "refold.env" -}}
{{- $root := index . 0 -}}
{{- $v := $root.Values -}}
{{- $env := dict "REFOLD_LOG_JSON" "true" "REFOLD_LISTEN" "0.0.0.0:7070" "REFOLD_DATA" "/var/lib/refold" "REFOLD_SCHEMAS" "/etc/refold/schemas" -}}
{{- if and (eq $v.mode "services") (ne (index . 1) "client") -}}
{{- $_ := set $env "REFOLD_KAFKA" $v.kafka.brokers -}}
{{- if or $v.kafka.configSecret.name $v.kafka.properties }}{{ $_ := set $env "REFOLD_KAFKA_CONFIG" (printf "/etc/refold/kafka/%s" ($v.kafka.configSecret.name | empty | ternary "kafka.properties" $v.kafka.configSecret.key)) }}{{ end -}}
{{- if $v.kafka.replication }}{{ $_ := set $env "REFOLD_KAFKA_REPLICATION" (toString $v.kafka.replication) }}{{ end -}}
{{- if $v.registry.url }}{{ $_ := set $env "REFOLD_REGISTRY" $v.registry.url }}{{ end -}}
{{- if $v.registry.authSecret.name }}{{ $_ := set $env "REFOLD_REGISTRY_AUTH_FILE" (printf "/etc/refold/registry/%s" $v.registry.authSecret.key) }}{{ end -}}
{{- if ne (index . 1) "collect" -}}
{{- $_ := set $env "REFOLD_CASSANDRA" $v.cassandra.nodes -}}
{{- $_ := set $env "REFOLD_CASSANDRA_KEYSPACE" $v.cassandra.keyspace -}}
{{- if or $v.cassandra.configSecret.name $v.cassandra.config }}{{ $_ := set $env "REFOLD_CASSANDRA_CONFIG" (printf "/etc/refold/cassandra/%s" ($v.cassandra.configSecret.name | empty | ternary "cassandra.toml" $v.cassandra.configSecret.key)) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if ne (index . 1) "collect" -}}
{{- if $v.token.secret.name }}{{ $_ := set $env "REFOLD_TOKEN_FILE" (printf "/etc/refold/token/%s" $v.token.secret.key) }}{{ end -}}
{{- end -}}
{{- range $key, $value := merge (deepCopy (index . 2)) $v.settings -}}
{{- $_ := set $env (printf "REFOLD_%s" (upper $key)) (toString $value) -}}
{{- end -}}
{{- range $name, $value := $env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{/* Folders of a process: (list . component). */}}
{{- define "refold.volumeMounts" -}}
{{- range include "refold.folders" . | fromYamlArray }}
- {name: {{ .volume.name }}, mountPath: {{ .path }}, readOnly: true}
{{- end }}
{{- end -}}

{{- define "refold.volumes" -}}
{{- range include "refold.folders" . | fromYamlArray }}
- {{ toYaml .volume | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{- define "refold.folders" -}}
{{- $root := index . 0 -}}
{{- $v := $root.Values -}}
{{- $services := and (eq $v.mode "services") (ne (index . 1) "client") -}}
- path: /etc/refold/schemas
  volume:
    {{- include "refold.schemas.volume" (list $root (include "refold.schemas.configMap" $root)) | nindent 4 }}
{{- if and $services (or $v.kafka.configSecret.name $v.kafka.properties) }}
- path: /etc/refold/kafka
  volume: {name: kafka, {{ include "refold.source" (list $root $v.kafka.configSecret.name "kafka") }}}
{{- end }}
{{- if and $services (ne (index . 1) "collect") (or $v.cassandra.configSecret.name $v.cassandra.config) }}
- path: /etc/refold/cassandra
  volume: {name: cassandra, {{ include "refold.source" (list $root $v.cassandra.configSecret.name "cassandra") }}}
{{- end }}
{{- if and $services $v.registry.authSecret.name }}
- path: /etc/refold/registry
  volume: {name: registry, secret: {secretName: {{ $v.registry.authSecret.name }}}}
{{- end }}
{{- if and $v.token.secret.name (ne (index . 1) "collect") }}
- path: /etc/refold/token
  volume: {name: token, secret: {secretName: {{ $v.token.secret.name }}}}
{{- end }}
{{- range $v.secrets }}
- path: /etc/refold/secrets/{{ . }}
  volume: {name: {{ printf "secret-%s" . | trunc 63 | trimSuffix "-" }}, secret: {secretName: {{ . }}}}
{{- end }}
{{- end -}}

{{- define "refold.source" -}}
{{- if index . 1 -}}
secret: {secretName: {{ index . 1 }}}
{{- else -}}
configMap: {name: {{ include "refold.fullname" (index . 0) }}-{{ index . 2 }}}
{{- end -}}
{{- end -}}

{{/* Started, alive and ready are all `/healthz`: it answers once the log, the view store and the catalogue are open. Whether views are healthy,
     /readyz, is for alerts: rows can be read while a view lags, and a pod that is taken out of service for that would help nobody. */}}
{{- define "refold.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: {{ . }}, port: http}
  periodSeconds: 2
  timeoutSeconds: 6
  failureThreshold: 3
{{- end -}}

{{- define "refold.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .storageClass }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end -}}
