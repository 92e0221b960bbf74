#!/bin/sh
if [ "$1" = --list ]; then
cat <<EOF
{"dynamic": {"hosts": ["d1", "d2"], "vars": {"from": "program", "n": 1}, "children": ["inner"]},
 "inner": ["d3"], "bare": {"x": 1, "y": [true, null]},
 "_meta": {"hostvars": {"d1": {"ansible_host": "10.0.0.1", "deep": {"k": ["v"]}}, "nobody": {"x": 1}, "bare": {"z": 2}}}}
EOF
fi
