"""Runs ansible's own commands, many in one process.

Each line of standard input is a JSON list: a folder, the command's name and its arguments. Each line of standard output is
the answer: exit code, standard output, standard error. Commands start from a fork, so that none sees another's state.
"""
import importlib
import json
import os
import sys
import tempfile

MODULES = {"ansible-inventory": "ansible.cli.inventory", "ansible": "ansible.cli.adhoc"}
mains = {name: importlib.import_module(module).main for name, module in MODULES.items()}

# What every command loads first is loaded here once.
loader = importlib.import_module("ansible.plugins.loader")
loader.init_plugin_loader()
for plugin in importlib.import_module("ansible.constants").INVENTORY_ENABLED:
    loader.inventory_loader.get(plugin)


def run(folder, words):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.chdir(folder)
                sys.argv = words
                mains[words[0]](words)
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode()


for line in sys.stdin:
    folder, *words = json.loads(line)
    print(json.dumps(run(folder, words)), flush=True)
