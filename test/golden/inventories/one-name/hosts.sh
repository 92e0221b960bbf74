#!/bin/sh
echo '{"db": {"hosts": ["a", "db"]}, "odd": {"t": "{{ x }}", "l": ["y", 1]}, "_meta": {"hostvars": {"db": {"v": 1}, "odd": {"t2": "{{ x }}"}}}}'
