#!/bin/sh
echo '{"web": {"hosts": ["a"], "vars": {"t": "{{ x }}", "u": {"__ansible_unsafe": "{{ x }}"}}}, "_meta": {"hostvars": {"a": {"l": [{"__ansible_unsafe": "y"}]}}}}'
