// Command readers has Go's YAML readers read each case of the corpus: kubectl's (sigs.k8s.io/yaml) and yaml.v3.
// They must read it as serde_yaml does.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

type testCase struct {
	Name  string          `json:"name"`
	YAML  string          `json:"yaml"`
	Value json.RawMessage `json:"value"`
}

// exact decodes JSON with numbers as they are written.
func exact(text []byte) (value any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&value)
	return value, err
}

func kubectl(text string) (any, error) {
	asJSON, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, err
	}
	return exact(asJSON)
}

func v3(text string) (any, error) {
	var value any
	if err := yamlv3.Unmarshal([]byte(text), &value); err != nil {
		return nil, err
	}
	asJSON, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return exact(asJSON)
}

func main() {
	file, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	wrong, count := 0, 0
	for lines.Scan() {
		var c testCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(err)
		}
		count++
		expected, err := exact(c.Value)
		if err != nil {
			panic(err)
		}
		for name, read := range map[string]func(string) (any, error){"sigs.k8s.io/yaml": kubectl, "yaml.v3": v3} {
			if value, err := read(c.YAML); err != nil || !reflect.DeepEqual(value, expected) {
				wrong++
				fmt.Printf("%s (%s):\n%s\nread as %#v (%v)\nnot as  %#v\n", c.Name, name, c.YAML, value, err, expected)
			}
		}
	}
	if lines.Err() != nil || wrong > 0 || count < 3000 {
		fmt.Printf("%d of %d cases are misread %v\n", wrong, count, lines.Err())
		os.Exit(1)
	}
}
