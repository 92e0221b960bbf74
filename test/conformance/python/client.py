"""docker-py as a client of whatever DOCKER_HOST names: client.py FUNCTION PREFIX IMAGE runs one function.

Everything made is called PREFIX + "one" or PREFIX + "two", so that the caller can remove it.
"""

import http.client
import io
import sys
import tarfile
import time

import docker


class Exact(http.client.HTTPResponse):
    """Reads no further than the head: docker-py takes the socket itself for a stream, without what was read of it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fp = io.BufferedReader(self.fp.detach(), 1)


http.client.HTTPConnection.response_class = Exact

FUNCTION, PREFIX, IMAGE = sys.argv[1:4]
ONE, TWO = PREFIX + "one", PREFIX + "two"
CLIENT = docker.from_env(timeout=60)


def equal(what, got, wanted):
    assert got == wanted, f"{what}: wanted {wanted!r}, got {got!r}"


def started(name=ONE, command=("sleep", "1000"), **settings):
    settings.setdefault("network_mode", "none")
    return CLIENT.containers.run(IMAGE, list(command), name=name, detach=True, **settings)


def refused(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError(f"{call} was not refused")


def until(what, condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.1)


def heard(tunnel, word):
    heard = b""
    while word not in heard:
        piece = tunnel.read(64)
        assert piece, f"the end after {heard!r}"
        heard += piece


def ping_version_info():
    equal("ping", CLIENT.ping(), True)
    assert CLIENT.version()["ApiVersion"].startswith("1.")
    info = CLIENT.info()
    equal("OSType", info["OSType"], "linux")
    assert info["Containers"] >= 0 and CLIENT.df()["Images"]


def run():
    out = CLIENT.containers.run(IMAGE, ["echo", "hello"], name=ONE, network_mode="none", remove=True)
    equal("output", out, b"hello\n")
    error = refused(
        docker.errors.ContainerError,
        CLIENT.containers.run, IMAGE, ["sh", "-c", "echo bad >&2; exit 3"], name=TWO, network_mode="none", remove=True,
    )
    equal("code", error.exit_status, 3)
    equal("errors", error.stderr, b"bad\n")


def run_detached():
    one = started(environment={"A": "b"}, labels={"color": "red"}, mem_limit="64m", hostname="box")
    one.reload()
    equal("status", one.status, "running")
    equal("labels", one.labels["color"], "red")
    equal("memory", one.attrs["HostConfig"]["Memory"], 64 << 20)
    one.stop(timeout=0)
    one.reload()
    equal("status", one.status, "exited")
    one.start()
    one.restart(timeout=0)
    one.kill()
    until("it is removed", lambda: one.remove(force=True) is None)
    refused(docker.errors.NotFound, CLIENT.containers.get, ONE)


def list_containers():
    one = started(labels={PREFIX: "1"})
    two = CLIENT.containers.create(IMAGE, ["true"], name=TWO, labels={PREFIX: "2"}, network_mode="none")
    ids = lambda **query: {c.id for c in CLIENT.containers.list(**query)}
    equal("running", ids(filters={"label": PREFIX}), {one.id})
    equal("all", ids(all=True, filters={"label": PREFIX}), {one.id, two.id})
    equal("by value", ids(all=True, filters={"label": f"{PREFIX}=2"}), {two.id})
    equal("by name", ids(all=True, filters={"name": TWO}), {two.id})
    equal("since", ids(all=True, filters={"status": "created", "label": PREFIX}), {two.id})
    equal("sparse", {c.id for c in CLIENT.containers.list(sparse=True, filters={"label": PREFIX})}, {one.id})


def exec_run():
    one = started()
    equal("exec", tuple(one.exec_run(["sh", "-c", "echo out; exit 4"])), (4, b"out\n"))
    code, (out, err) = one.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
    equal("demux", (out, err), (b"out\n", b"err\n"))
    equal("stream", b"".join(one.exec_run(["seq", "1", "100"], stream=True).output).count(b"\n"), 100)
    equal("environment", one.exec_run("sh -c 'echo $A; pwd'", environment={"A": "b"}, workdir="/tmp").output, b"b\n/tmp\n")
    assert not one.exec_run("true", detach=True).output
    tunnel = one.exec_run(["cat"], stdin=True, socket=True).output
    tunnel._sock.sendall(b"through\n")
    heard(tunnel, b"through")
    tunnel._sock.close()


def logs():
    one = started(command=["sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.2; done; sleep 1; echo err >&2"])
    equal("followed", b"".join(one.logs(stream=True, follow=True, stderr=False)), b"line 1\nline 2\nline 3\n")
    equal("tail", one.logs(tail=1), b"err\n")
    equal("errors", one.logs(stdout=False), b"err\n")
    assert one.logs(timestamps=True).startswith(b"20")


def attach_socket():
    one = CLIENT.containers.create(IMAGE, ["cat"], name=ONE, stdin_open=True, network_mode="none")
    tunnel = one.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    one.start()
    tunnel._sock.sendall(b"attached\n")
    heard(tunnel, b"attached")
    tunnel._sock.close()
    one.kill()
    two = CLIENT.containers.create(IMAGE, ["echo", "two"], name=TWO, network_mode="none")
    stream = two.attach(stream=True, logs=True)
    two.start()
    equal("attach", b"".join(stream), b"two\n")


def archives():
    one = started()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("file.txt")
        member.size = 7
        archive.addfile(member, io.BytesIO(b"content"))
    equal("put", one.put_archive("/tmp", packed.getvalue()), True)
    chunks, about = one.get_archive("/tmp/file.txt")
    equal("name", about["name"], "file.txt")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        equal("content", archive.extractfile("file.txt").read(), b"content")
    refused(docker.errors.NotFound, one.get_archive, "/nothing")
    assert len(b"".join(one.export())) > 100_000


def watch():
    one = started()
    assert one.stats(stream=False)["memory_stats"]["usage"] > 0
    assert next(one.stats(stream=True, decode=True))["id"] == one.id
    until("the runtime has become the program", lambda: "sleep 1000" in str(one.top()["Processes"]))
    one.exec_run(["touch", "/new"])
    equal("diff", one.diff(), [{"Path": "/new", "Kind": 1}])


def change():
    one = started(command=["sh", "-c", "echo own > /own; exit 6"])
    equal("wait", one.wait()["StatusCode"], 6)
    one.rename(TWO)
    equal("name", CLIENT.containers.get(TWO).id, one.id)
    one.update(cpu_shares=256)
    image = one.commit(repository=ONE, tag="1")
    equal("tags", image.tags, [f"{ONE}:1"])
    two = started(command=["sleep", "1000"])
    two.pause()
    two.reload()
    equal("status", two.status, "paused")
    two.unpause()


def images():
    dockerfile = io.BytesIO(f"FROM {IMAGE}\nENV A={PREFIX}\n".encode())
    image, log = CLIENT.images.build(fileobj=dockerfile, tag=f"{ONE}:1", rm=True)
    assert any("Successfully tagged" in line.get("stream", "") for line in log)
    assert f"A={PREFIX}" in image.attrs["Config"]["Env"]
    equal("tag", image.tag(TWO, "1"), True)
    equal("list", [i.id for i in CLIENT.images.list(name=TWO)], [image.id])
    saved = b"".join(CLIENT.images.get(f"{TWO}:1").save(named=f"{TWO}:1"))
    CLIENT.images.remove(f"{TWO}:1")
    refused(docker.errors.ImageNotFound, CLIENT.images.get, f"{TWO}:1")
    equal("load", [i.id for i in CLIENT.images.load(saved)], [image.id])
    assert image.history()


def networks():
    network = CLIENT.networks.create(ONE, driver="bridge", labels={PREFIX: "1"})
    equal("list", [n.id for n in CLIENT.networks.list(filters={"label": PREFIX})], [network.id])
    equal("names", [n.id for n in CLIENT.networks.list(names=[ONE])], [network.id])
    one = started(network_mode=None, network=ONE)
    network.reload()
    equal("containers", [c.id for c in network.containers], [one.id])
    network.disconnect(one)
    network.connect(one, aliases=["again"])
    one.remove(force=True)
    network.remove()
    refused(docker.errors.NotFound, CLIENT.networks.get, network.id)


def volumes():
    volume = CLIENT.volumes.create(ONE, labels={PREFIX: "1"})
    equal("name", volume.name, ONE)
    equal("list", len(CLIENT.volumes.list(filters={"label": PREFIX})), 1)
    mount = {ONE: {"bind": "/data", "mode": "rw"}}
    settings = {"network_mode": "none", "remove": True, "volumes": mount}
    CLIENT.containers.run(IMAGE, ["sh", "-c", "echo kept > /data/file"], name=ONE, **settings)
    equal("content", CLIENT.containers.run(IMAGE, ["cat", "/data/file"], name=ONE, **settings), b"kept\n")
    CLIENT.volumes.get(ONE).remove()
    refused(docker.errors.NotFound, CLIENT.volumes.get, ONE)


def events():
    # An engine answers a moment before it listens, so the stream begins in the past.
    stream = CLIENT.events(decode=True, since=int(time.time()), filters={"container": ONE})
    one = started()
    one.kill()
    seen = []
    for event in stream:
        seen.append(event["Action"])
        if event["Action"] == "die":
            break
    stream.close()
    for action in ("create", "start", "die"):
        assert action in seen, f"{action} in {seen}"


def errors():
    equal("code", refused(docker.errors.NotFound, CLIENT.containers.get, PREFIX + "nothing").status_code, 404)
    missing = refused(docker.errors.ImageNotFound, CLIENT.containers.create, PREFIX + "nothing:1")
    assert "No such image" in missing.explanation, missing.explanation
    started()
    equal("conflict", refused(docker.errors.APIError, started).status_code, 409)
    error = refused(docker.errors.APIError, CLIENT.containers.get(ONE).remove)
    equal("in use", error.status_code, 409)


def low_level():
    api = CLIENT.api
    config = api.create_host_config(restart_policy={"Name": "on-failure"}, dns=["192.0.2.53"])
    made = api.create_container(IMAGE, ["sleep", "1000"], name=ONE, host_config=config, stop_signal="SIGKILL")
    equal("warnings", made.get("Warnings") or [], [])
    api.start(made["Id"])
    shown = api.inspect_container(ONE)
    equal("policy", shown["HostConfig"]["RestartPolicy"]["Name"], "on-failure")
    assert shown["NetworkSettings"]["Networks"], "a container without a network of its own is on the default one"
    equal("exec", api.exec_start(api.exec_create(ONE, ["echo", "low"])["Id"]), b"low\n")
    api.stop(ONE)
    equal("code", api.wait(ONE)["StatusCode"], 137)


globals()[FUNCTION]()
