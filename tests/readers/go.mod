module readers

go 1.19

require (
	go.yaml.in/yaml/v3 v3.0.6
	sigs.k8s.io/yaml v1.4.0
)
