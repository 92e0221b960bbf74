#!/bin/sh
case $1 in
--list) echo '{"web": ["a", "b"], "db": {"hosts": ["c", "a"], "vars": {"v": 1}}, "odd": {"port": 5}}' ;;
--host) [ "$2" = b ] || echo "{\"name\": \"$2\"}" ;;
esac
