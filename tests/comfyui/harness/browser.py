"""ComfyUI's real front end in headless Chromium."""

import json
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 180_000  # milliseconds for a page on a busy machine; five seconds are usual
READY = "() => window.app?.graph && window.LiteGraph?.registered_node_types['KSampler']"
# Names every node type the page does not know, and every widget whose value it would not offer or does not have.
INSPECT = """() => {
    const found = {missing: [], unknown: []};
    for (const node of app.graph.nodes) {
        if (['Note', 'MarkdownNote', 'Reroute'].includes(node.type)) continue;
        if (!LiteGraph.registered_node_types[node.type]) { found.missing.push(node.type); continue; }
        for (const widget of node.widgets ?? []) {
            const values = widget.options?.values;
            const offered = typeof values === 'function' ? values(widget, node) : values;
            if (widget.type === 'combo' && Array.isArray(offered) && !offered.includes(widget.value))
                found.unknown.push(`${node.type}.${widget.name} = ${widget.value}`);
            if (widget.value === undefined || widget.type === 'converted-widget-missing')
                found.unknown.push(`${node.type}.${widget.name} has no value`);
        }
        for (const input of node.inputs ?? [])
            if (input.type === undefined || input.type === -1)
                found.unknown.push(`${node.type}.${input.name} has no type`);
    }
    return found;
}"""
RUN = """seconds => new Promise((done, fail) => {
    setTimeout(() => fail(new Error(`no success within ${seconds} s`)), seconds * 1000);
    app.api.addEventListener('execution_success', event => done(event.detail.prompt_id), {once: true});
    app.api.addEventListener('execution_error', event => fail(new Error(event.detail.exception_message)), {once: true});
    app.queuePrompt(0, 1).then(() => {
        const errors = app.lastNodeErrors ?? {};
        if (Object.keys(errors).length) fail(new Error('rejected: ' + JSON.stringify(errors)));
    });
})"""
# Zooms and moves so that every node and group lies in the window, clear of the page's bars, not larger than life.
SHOW_ALL = """() => {
    const canvas = app.canvas, rects = [];
    for (const node of app.graph.nodes) rects.push([node.pos[0], node.pos[1] - 40, node.size[0], node.size[1] + 40]);
    for (const group of app.graph.groups) rects.push([group.pos[0], group.pos[1], group.size[0], group.size[1]]);
    const left = Math.min(...rects.map(r => r[0])), top = Math.min(...rects.map(r => r[1]));
    const right = Math.max(...rects.map(r => r[0] + r[2])), bottom = Math.max(...rects.map(r => r[1] + r[3]));
    const scale = Math.min(1, (window.innerWidth - 120) / (right - left),
        (window.innerHeight - 200) / (bottom - top));
    canvas.ds.scale = scale;
    canvas.ds.offset[0] = -left + 80 / scale;
    canvas.ds.offset[1] = -top + 100 / scale;
    canvas.setDirty(true, true);
}"""


class FrontEnd:
    """One page with ComfyUI's front end open on it."""

    def __init__(self, page: Page, url: str):
        self.page, self.url = page, url
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.route(
            lambda address: not address.startswith((url, "blob:", "data:", url.replace("http", "ws", 1))),
            lambda route: route.abort(),
        )
        page.set_default_timeout(PATIENCE)
        page.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
        page.goto(url)
        page.wait_for_function(READY)

    def load(self, workflow: dict, name: str) -> None:
        """Opens a workflow in UI format as if its file had been dropped on the page."""
        self.page.evaluate("([graph, name]) => app.loadGraphData(graph, true, true, name)", [workflow, name])
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(workflow["nodes"]))

    def load_api(self, graph: dict) -> None:
        """Opens a graph in API format; the page lays it out."""
        self.page.evaluate("graph => app.loadApiJson(graph, 'graph')", graph)

    def inspect(self) -> dict[str, list[str]]:
        """{"missing": node types, "unknown": widgets and inputs that the page cannot make sense of}."""
        return self.page.evaluate(INSPECT)

    def prompt(self) -> dict:
        """The graph that the page would send to the server, API format."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def serialize(self) -> dict:
        """The graph on the page, UI format."""
        return json.loads(self.page.evaluate("() => JSON.stringify(app.graph.serialize())"))

    def run(self, timeout: float = 300) -> str:
        """Presses Run and waits for success -> the prompt's id."""
        return self.page.evaluate(RUN, timeout)

    def screenshot(self, path: Path, whole_graph: bool = True) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if whole_graph:
            self.page.evaluate(SHOW_ALL)
        self.page.wait_for_timeout(800)  # pictures in the nodes arrive and are drawn on the next frames
        self.page.screenshot(path=path)
        return path

    def close_dialog(self) -> None:
        """Closes the dialog on top."""
        self.page.keyboard.press("Escape")
        self.page.locator(".p-dialog").last.wait_for(state="detached")

    def shown_errors(self) -> list[str]:
        """What the page complains about in its toasts and dialogs."""
        return self.page.locator(".p-toast-message-error, .p-toast-message-warn, .p-dialog").all_inner_texts()


@contextmanager
def chromium(executable: str, size: tuple[int, int] = (1920, 1080)):
    """A running Chromium that opens front ends: `with chromium(path) as open_front_end: page = open_front_end(url)`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield lambda url: FrontEnd(browser.new_page(viewport={"width": size[0], "height": size[1]}), url)
        finally:
            browser.close()
