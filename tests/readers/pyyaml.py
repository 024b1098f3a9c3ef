"""PyYAML, which cloud-init reads with, must read each case of the corpus as serde_yaml does."""

import json
import sys

import yaml



def canonical(value):
    """Tells what == does not: True from 1, 1 from 1.0. A date or an error is no JSON."""
    return json.dumps(value, sort_keys=True, default=repr)


wrong = count = 0
for line in open(sys.argv[1], encoding="utf-8"):
    case = json.loads(line)
    count += 1
    for loader in (yaml.SafeLoader, yaml.CSafeLoader):
        try:
            value = yaml.load(case["yaml"], loader)
        except yaml.YAMLError as error:
            value = error
        if canonical(value) != canonical(case["value"]):
            wrong += 1
            print(f"{case['name']} ({loader.__name__}):\n{case['yaml']}\nread as {value!r}\nnot as  {case['value']!r}")
if wrong or count < 3000:
    sys.exit(f"{wrong} of {count} cases are misread")
