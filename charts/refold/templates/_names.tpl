{{- define "refold.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of a component: (list . "serve"). It never changes. */}}
{{- define "refold.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "refold.labels" -}}
{{- $root := index . 0 -}}
{{ include "refold.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{- define "refold.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "refold.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "refold.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* The API of the release. */}}
{{- define "refold.server" -}}
http://{{ include "refold.fullname" . }}:{{ .Values.service.port }}
{{- end -}}

{{/* What cannot work is refused before anything is changed. */}}
{{- define "refold.validate" -}}
{{- if eq .Values.mode "services" -}}
{{- if not .Values.kafka.brokers -}}{{- fail "mode services works over Kafka: name some of its brokers in kafka.brokers" -}}{{- end -}}
{{- if not .Values.cassandra.nodes -}}{{- fail "mode services works over Cassandra: name some of its nodes in cassandra.nodes" -}}{{- end -}}
{{- end -}}
{{- range $key, $value := .Values.kafka.properties -}}
{{- if regexMatch "password|secret|ssl.key.pem" $key -}}{{- fail (printf "kafka.properties: %s is a secret: put the file of properties into a Secret and name that in kafka.configSecret" $key) -}}{{- end -}}
{{- end -}}
{{- if .Values.cassandra.config.password -}}{{- fail "cassandra.config: password is a secret: put the settings into a Secret and name that in cassandra.configSecret" -}}{{- end -}}
{{- if and .Values.schemas.existingConfigMap (not .Values.schemas.existingFiles) -}}{{- fail "schemas.existingConfigMap needs the paths of its files in schemas.existingFiles" -}}{{- end -}}
{{- if and .Values.jobs (not .Values.token.secret.name) -}}{{- fail "jobs speak to the API: name the Secret with its token in token.secret.name" -}}{{- end -}}
{{- end -}}
