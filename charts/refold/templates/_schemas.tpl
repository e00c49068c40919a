{{/* Path → text of the schemas folder, as YAML. */}}
{{- define "refold.schemas.files" -}}
{{- $files := .Values.schemas.files -}}
{{- if not $files -}}
{{- $files = dict -}}
{{- range $path, $_ := .Files.Glob "files/schemas/**" -}}
{{- $_ := set $files (trimPrefix "files/schemas/" $path) ($.Files.Get $path) -}}
{{- end -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{- define "refold.schemas.configMap" -}}
{{ .Values.schemas.existingConfigMap | default (printf "%s-schemas" (include "refold.fullname" .)) }}
{{- end -}}

{{/* The folder as a volume: (list . "name of the ConfigMap"). Keys of a ConfigMap have no slash. */}}
{{- define "refold.schemas.volume" -}}
{{- $root := index . 0 -}}
name: schemas
configMap:
  name: {{ index . 1 }}
  items:
    {{- $paths := $root.Values.schemas.existingFiles }}
    {{- if not $root.Values.schemas.existingConfigMap }}{{ $paths = keys (include "refold.schemas.files" $root | fromYaml) | sortAlpha }}{{ end }}
    {{- range $paths }}
    - {key: {{ . | replace "/" "__" }}, path: {{ . }}}
    {{- end }}
{{- end -}}

{{- define "refold.schemas.data" -}}
{{- range $path, $text := include "refold.schemas.files" . | fromYaml }}
{{ $path | replace "/" "__" }}: |
  {{- $text | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Processes read sources and schemas when they start, views when they are asked for, and cases of views never: only what is read at the start restarts them. */}}
{{- define "refold.schemas.checksum" -}}
{{- $read := dict -}}
{{- range $path, $text := include "refold.schemas.files" . | fromYaml -}}
{{- if not (or (hasPrefix "views/" $path) (hasPrefix "tests/" $path)) -}}{{- $_ := set $read $path $text -}}{{- end -}}
{{- end -}}
{{- toYaml $read | sha256sum | trunc 16 -}}
{{- end -}}
