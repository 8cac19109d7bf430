"""A real ComfyUI server for tests: its own process, its own empty base folder, only our packs, no network.

    with Server(find_comfy_roots()[0]) as server:
        result = server.run({"1": {"class_type": "SkrrTestModels", "inputs": {...}}, ...})

One websocket stays open for the server's whole life, so no message is missed between posting and listening.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from .comfy_roots import PACK, ComfyRoot, find_comfy_roots

__all__ = ["ComfyRoot", "PromptRejected", "Result", "Server", "find_comfy_roots"]

PACK_NAME = "skrr-for-comfyui"
TESTING_NAME = "skrr-testing-pack"
START_SECONDS = 300
STOP_SECONDS = 20


class PromptRejected(Exception):
    """The server refused a graph before running it; ``errors`` is its answer (``error``, ``node_errors``)."""

    def __init__(self, errors: dict):
        super().__init__(json.dumps(errors, indent=1))
        self.errors = errors


@dataclass
class Result:
    """What one prompt did.

    ``status`` is "success", "error" or "interrupted"; ``messages`` holds all (type, data) in order, a pack's
    own message types included.
    """

    prompt_id: str
    status: str
    messages: list[tuple[str, dict]]
    history: dict

    def of_type(self, kind: str) -> list[dict]:
        """The data of every message of one type."""
        return [data for name, data in self.messages if name == kind]

    @property
    def executed(self) -> list[str]:
        """Ids of the nodes that ran, in order."""
        return list(dict.fromkeys(data["node"] for data in self.of_type("executing") if data["node"]))

    @property
    def cached(self) -> list[str]:
        """Ids of the nodes whose outputs came from the cache."""
        return [node for data in self.of_type("execution_cached") for node in data["nodes"]]

    @property
    def progress(self) -> list[dict]:
        """Progress messages: node, value, max."""
        return self.of_type("progress")

    @property
    def outputs(self) -> dict[str, dict]:
        """What each output node gave the page (images, text, ...), by node id."""
        return self.history.get("outputs", {})

    @property
    def error(self) -> dict | None:
        """The execution error, or None: node_id, exception_type, exception_message, traceback."""
        return next(iter(self.of_type("execution_error")), None)


class Server:
    """A ComfyUI server on a free port of this machine; a context manager.

    ``base`` (models, custom_nodes, output, ...) is a temporary folder unless given; ``models``, a folder with
    model files, is linked in instead of an empty one; ``skrr=False`` leaves out the pack under test; ``args``
    are further ComfyUI options.
    """

    def __init__(
        self,
        root: ComfyRoot,
        *,
        base: Path | None = None,
        models: Path | None = None,
        skrr: bool = True,
        args: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
    ):
        self.root = root
        self.base = Path(base) if base else Path(tempfile.mkdtemp(prefix="skrr-comfy-"))
        self.client_id = uuid.uuid4().hex
        self.process: subprocess.Popen | None = None
        self._temporary = base is None
        self._models = models
        self._skrr = skrr
        self._args = args
        self._env = env or {}
        self._events: dict[str, list[tuple[str, dict]]] = defaultdict(list)
        self._arrived = threading.Condition()
        self._listening = threading.Event()
        self._running = ""

    def __enter__(self) -> Server:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """Everything the server has printed."""
        return (self.base / "server.log").read_text(encoding="utf-8", errors="replace")

    def post(self, prompt: dict) -> str:
        """Queue a graph in API form and return its prompt id; PromptRejected if it does not validate."""
        return self._http("/prompt", {"prompt": prompt, "client_id": self.client_id})["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 600) -> Result:
        """Wait until a posted prompt has ended."""
        events = self._events[prompt_id]
        self.wait_for_message(prompt_id, lambda kind, data: kind == "executing" and not data["node"], timeout)
        history = self._http(f"/history/{prompt_id}")[prompt_id]
        kinds = {kind for kind, _ in events}
        status = "interrupted" if "execution_interrupted" in kinds else history["status"]["status_str"]
        return Result(prompt_id, status, list(events), history)

    def wait_for_message(self, prompt_id: str, wanted, timeout: float = 600) -> None:
        """Wait until a message of this prompt fits ``wanted(type, data)``: to act in the middle of a run."""
        events = self._events[prompt_id]
        deadline = time.monotonic() + timeout
        with self._arrived:
            while not any(wanted(kind, data) for kind, data in events):
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    seen = [kind for kind, _ in events]
                    raise TimeoutError(f"waited {timeout} s in vain; messages: {seen}\n{self.log[-4000:]}")
                self._arrived.wait(min(left, 1.0))

    def run(self, prompt: dict, timeout: float = 600) -> Result:
        """Post a graph and wait until it has ended."""
        return self.wait(self.post(prompt), timeout)

    def interrupt(self) -> None:
        """Press Cancel."""
        self._http("/interrupt", {})

    def object_info(self) -> dict:
        """The definitions of all nodes, by class name."""
        return self._http("/object_info")

    def stop(self) -> None:
        """End the server and remove its temporary folder."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self._temporary:
            shutil.rmtree(self.base, ignore_errors=True)

    # --- inside --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._fill_base()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [
            str(self.root.python), str(self.root.path / "main.py"), "--cpu", "--disable-auto-launch",
            "--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(self.base),
            "--database-url", "sqlite:///:memory:", "--disable-api-nodes",
            # Not the packs of an extra_model_paths.yaml that the user may have.
            "--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK_NAME, TESTING_NAME,
            *self._args,
        ]  # fmt: skip
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        threads = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
        environment = {**os.environ, **offline, **threads, "PYTHONUNBUFFERED": "1", **self._env}
        environment.pop("PYTHONPATH", None)  # the tests' own path is not the server's
        with open(self.base / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.base, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait_until_ready()
        threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True).start()
        if not self._listening.wait(START_SECONDS):
            raise TimeoutError("the server opened no websocket\n" + self.log[-4000:])

    def _fill_base(self) -> None:
        nodes = self.base / "custom_nodes"
        nodes.mkdir(parents=True, exist_ok=True)
        packs = {TESTING_NAME: PACK / "tests" / "comfy" / "testing_pack"}
        if self._skrr:
            packs[PACK_NAME] = PACK
        for name, source in packs.items():
            if not (nodes / name).exists():
                (nodes / name).symlink_to(source, target_is_directory=True)
        if self._models and not (self.base / "models").exists():
            (self.base / "models").symlink_to(Path(self._models).resolve(), target_is_directory=True)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self._http("/system_stats")
                return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(f"ComfyUI {self.root.version} did not start\n{self.log[-4000:]}")

    def _http(self, path: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data)
        # A proxy of the environment must not get between the tests and this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            if path == "/prompt" and error.code == 400:
                raise PromptRejected(json.loads(error.read())) from None
            raise
        return json.loads(text) if text else {}

    async def _listen(self) -> None:
        url = f"ws://127.0.0.1:{self.port}/ws?clientId={self.client_id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket_:
            async for message in socket_:
                self._listening.set()  # the server greets with its status once it knows this client
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                event = json.loads(message.data)
                data = event.get("data") or {}
                # A pack's own messages seldom name the prompt: they belong to the one that started last.
                self._running = data.get("prompt_id", self._running)
                with self._arrived:
                    self._events[self._running].append((event["type"], data))
                    self._arrived.notify_all()
