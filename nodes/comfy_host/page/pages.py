"""The routes under /skrr that the page asks. Every body is bounded, every refusal one sentence."""

import asyncio
import json

from aiohttp import web
from server import PromptServer

from ....skrr_engine.errors import PlanError, SkrrError
from ....skrr_engine.plans.plan import Plan
from ....skrr_engine.plans.plan_json import CORRECTIONS, MAX_TEXT, dumps
from ....skrr_engine.plans.plan_text import read_plan_text
from ....skrr_engine.plans.presets import load_preset
from ..files.best_plan import may_be_chosen, named_plan
from .pages_plans import plan_page
from .pages_prompts import overtaken, stopped, workflow_of
from .pages_search import RUNS
from .pages_state import NODES

__all__ = ["add_routes"]

# Plan text, its characters escaped, and a little around it.
MAX_BODY = 4 * MAX_TEXT + 1000
MAX_NAME = 300


def add_routes(presets_by_kind: dict[str, str]) -> None:
    """Adds the routes to ComfyUI's server, while it loads the pack. `presets_by_kind` says which preset `auto`
    takes for which kind of CLIP. Does nothing where there is no server."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    routes = server.routes

    @routes.post("/skrr/plan")
    async def plan(request: web.Request) -> web.Response:
        """{"text"} or {"source"} or {"kind"} (of CLIP, for auto) -> the plan as `plan_page` has it. {"best"} (the same)
        -> the one that Skrr Apply takes by itself at such a CLIP, {} where that hangs on its weights."""
        try:
            asked = await _body(request)
            if "best" in asked:
                return web.json_response(await asyncio.to_thread(lambda: _best(asked["best"], presets_by_kind)))
            return web.json_response(await asyncio.to_thread(lambda: plan_page(_plan(asked, presets_by_kind))))
        except (PlanError, SkrrError) as error:
            return _refused(error)

    @routes.post("/skrr/plan/text")
    async def plan_text(request: web.Request) -> web.Response:
        """The same question -> the plan as text to pin."""
        try:
            asked = await _body(request)
            return web.json_response({"text": await asyncio.to_thread(lambda: dumps(_plan(asked, presets_by_kind)))})
        except (PlanError, SkrrError) as error:
            return _refused(error)

    @routes.get("/skrr/runs")
    async def runs(request: web.Request) -> web.Response:
        """The searches that this server remembers, the newest last; `workflow` and `node` narrow it down."""
        wanted = {name: request.query[name] for name in ("workflow", "node") if name in request.query}
        found = [run.head() for run in RUNS.values()]
        return web.json_response([head for head in found if wanted.items() <= head.items()])

    @routes.get("/skrr/runs/{run}")
    async def run(request: web.Request) -> web.Response:
        """All of one search."""
        found = RUNS.get(request.match_info["run"])
        return _missing("search") if found is None else web.json_response(found.page())

    @routes.get("/skrr/prompt/{prompt}")
    async def prompt(request: web.Request) -> web.Response:
        """The id of the workflow that a run is or was of, "" where nothing is known of it; and, where it failed at the
        node `failed`, the nodes that it did not come to."""
        name, failed = request.match_info["prompt"], request.query.get("failed", "")
        return web.json_response({"workflow": workflow_of(name), "stopped": stopped(name, failed)})

    @routes.get("/skrr/node")
    async def node(request: web.Request) -> web.Response:
        """What is known of the node `node` of the workflow `workflow` since it ran; {} where nothing is, and "stopped"
        where a later run failed before it came to it."""
        where = request.query.get("workflow", ""), request.query.get("node", "")
        if overtaken(*where):
            return web.json_response({"stopped": True})
        found = NODES.get(where)
        return web.json_response({} if found is None else found.page())

    @routes.get("/skrr/node/text")
    async def text(request: web.Request) -> web.Response:
        """The plan that this node last had, as text to pin."""
        found = NODES.get((request.query.get("workflow", ""), request.query.get("node", "")))
        plan = None if found is None else found.plan
        return _missing("plan") if plan is None else web.json_response({"text": dumps(plan)})


async def _body(request: web.Request) -> dict:
    """The JSON object in the body, of at most MAX_BODY bytes."""
    data = bytearray()
    while part := await request.content.readany():
        data += part
        if len(data) > MAX_BODY:
            raise SkrrError(f"The plan text is longer than {MAX_TEXT} characters; no plan is.")
    try:
        asked = json.loads(data)
    except (ValueError, RecursionError):
        raise SkrrError("The question is no JSON.") from None
    if not isinstance(asked, dict) or not all(isinstance(value, str) for value in asked.values()):
        raise SkrrError("The question is no JSON object of text.")
    return asked


def _plan(asked: dict[str, str], presets_by_kind: dict[str, str]) -> Plan:
    if asked.get("text", "").strip():
        return read_plan_text(asked["text"], {CORRECTIONS})
    source, kind = asked.get("source", "")[:MAX_NAME], asked.get("kind", "")[:MAX_NAME]
    if kind:
        if kind not in presets_by_kind:
            raise SkrrError(f"There is no published plan for a CLIP of type {kind!r}.")
        source = presets_by_kind[kind]
    return named_plan(source)


def _best(kind: str, presets_by_kind: dict[str, str]) -> dict:
    """The published plan for this kind of CLIP, unless one that was found here may come before it."""
    if kind not in presets_by_kind:
        return {}
    published = load_preset(presets_by_kind[kind])
    return {} if may_be_chosen(kind, published) else plan_page(published)


def _refused(error: SkrrError) -> web.Response:
    """A refusal is an answer: with a status of 400 the browser would log an error for every half-pasted plan."""
    return web.json_response({"error": str(error)})


def _missing(what: str) -> web.Response:
    return _refused(SkrrError(f"The server knows no such {what}; it forgets when it restarts."))
