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
MISSING_DIALOG = ".comfy-missing-models"
ERROR_OVERLAY, ERROR_DETAILS = '[data-testid="error-overlay"]', '[data-testid="error-overlay-see-errors"]'
MISSING_PANEL = '[data-testid="error-group-missing-model"]'
MOST_MOVES = 20  # how often a page is looked at until it has settled
LIBRARY_TAB, LIBRARY = "Workspace.ToggleSidebarTab.node-library", ".side-bar-panel"
BESIDE_LIBRARY = (1100, 500)
COUNT = "() => app.graph.nodes.length"
DRAWN = 800  # milliseconds in which pictures in the nodes arrive and are drawn on the next frames
READY = """() => window.app?.graph && window.LiteGraph?.registered_node_types['KSampler']
    && app.extensionManager?.workflow?.activeWorkflow"""  # what was open before is open again
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
# Left, top, right and bottom of every node as it is drawn, with its title, by its id; Vue nodes are elements of the
# page.
BOXES = """() => {
    const {scale, offset} = app.canvas.ds, page = app.canvas.canvas.getBoundingClientRect();
    return Object.fromEntries(app.graph.nodes.map(node => {
        const element = LiteGraph.vueNodesMode && document.querySelector(`[data-node-id="${node.id}"]`);
        const [x, y] = node.pos, [width, height] = node.size;
        if (!element) return [node.id, [x, y - LiteGraph.NODE_TITLE_HEIGHT, x + width, y + height]];
        const box = element.getBoundingClientRect();
        return [node.id, [(box.left - page.left) / scale - offset[0], (box.top - page.top) / scale - offset[1],
            (box.right - page.left) / scale - offset[0], (box.bottom - page.top) / scale - offset[1]]];
    }));
}"""
# Names every wire and the node that it is drawn under; the sockets' ends in its own nodes do not count.
CROSSED = """boxes => {
    const pen = document.createElement('canvas').getContext('2d'), found = new Set(), socket = 16;
    pen.lineWidth = 2;
    app.canvas.draw(true, true);  // wires have their paths from being drawn
    const wires = [...app.graph.links.values()].map(link => [link, link.path]);
    for (const point of app.graph.reroutes.values())
        wires.push([app.graph.links.get([...point.linkIds][0]), point.path]);
    for (const [link, path] of wires) for (const node of app.graph.nodes) {
        if (!path) { found.add(`wire ${link.id} is not drawn`); continue; }
        let [left, top, right, bottom] = boxes[node.id];
        if (node.id === link.target_id) left += socket;
        if (node.id === link.origin_id) right -= socket;
        const meets = (x, y) => pen.isPointInStroke(path, x, y);
        let met = false;
        for (let x = left; x < right && !met; x += 2) met = meets(x, top) || meets(x, bottom);
        for (let y = top; y < bottom && !met; y += 2) met = meets(left, y) || meets(right, y);
        if (met) found.add(`wire ${link.origin_id} -> ${link.target_id} under ${node.title} ${node.id}`);
    }
    return [...found];
}"""
# The notes whose text does not fit into them.
CUT_NOTES = """() => app.graph.nodes.filter(node => node.type === 'MarkdownNote').filter(node => {
    const drawn = document.querySelector(`[data-node-id="${node.id}"] .comfy-markdown-content`);
    const text = (LiteGraph.vueNodesMode && drawn) || node.widgets[0].element.querySelector('.tiptap');
    return text.scrollHeight > text.clientHeight + 1
        || text.scrollHeight > (LiteGraph.vueNodesMode ? Infinity : node.widgets[0].element.clientHeight + 1);
}).map(node => node.title)"""
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
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """After the page was opened: until it knows its nodes."""
        self.page.wait_for_function(READY)

    def load(self, workflow: dict, name: str) -> None:
        """Opens a workflow in UI format as if its file had been dropped on the page."""
        self.page.evaluate("([graph, name]) => app.loadGraphData(graph, true, true, name)", [workflow, name])
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(workflow["nodes"]))

    def load_api(self, graph: dict) -> None:
        """Opens a graph in API format; the page lays it out."""
        self.page.evaluate("graph => app.loadApiJson(graph, 'graph')", graph)

    def add_from_library(self, name: str) -> None:
        """Adds a node to the graph as an artist does: out of the node library, found by its name."""
        before = self.page.evaluate(COUNT)
        self.page.evaluate("tab => app.extensionManager.command.execute(tab)", LIBRARY_TAB)
        panel = self.page.locator(LIBRARY)
        panel.locator("input").first.fill(name)
        panel.get_by_text(name, exact=True).first.click()
        self.page.wait_for_timeout(DRAWN)
        if self.page.evaluate(COUNT) == before or self.page.evaluate("() => !!app.canvas.state?.ghostNodeId"):
            self.page.mouse.click(*BESIDE_LIBRARY)  # newer front ends hang it on the mouse first
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=before + 1)
        self.page.evaluate("tab => app.extensionManager.command.execute(tab)", LIBRARY_TAB)

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

    def set_vue(self, on: bool) -> None:
        """How pages that are opened from now on draw nodes: the server remembers it."""
        self.page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", on)

    def draw_with_vue(self, on: bool) -> None:
        """Switches Vue nodes ("Nodes 2.0") on or off; opens the page anew where it does not draw them so already."""
        before = self.page.evaluate("() => !!LiteGraph.vueNodesMode")
        self.set_vue(on)
        if before != on:
            self.page.reload()
            self.wait_until_ready()
        self.page.wait_for_function("on => !!LiteGraph.vueNodesMode === on", arg=on)

    def show_all(self) -> None:
        """Zooms so that the whole graph can be seen, and waits until nothing moves any more."""
        before = None
        for _ in range(MOST_MOVES):
            self.page.evaluate(SHOW_ALL)
            self.page.wait_for_timeout(DRAWN)
            if (boxes := self.boxes()) == before:
                return
            before = boxes

    def boxes(self) -> dict[int, tuple[float, float, float, float]]:
        """Left, top, right and bottom of every node as it is drawn, with its title."""
        return {int(node): tuple(box) for node, box in self.page.evaluate(BOXES).items()}

    def crossed(self) -> list[str]:
        """Which wires are drawn under which nodes."""
        return self.page.evaluate(CROSSED, self.page.evaluate(BOXES))

    def cut_notes(self) -> list[str]:
        """The titles of the notes whose text does not fit into them."""
        return self.page.evaluate(CUT_NOTES)

    def screenshot(self, path: Path, whole_graph: bool = True) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if whole_graph:
            self.page.evaluate(SHOW_ALL)
        self.page.wait_for_timeout(DRAWN)
        self.page.screenshot(path=path)
        return path

    def missing_models(self) -> str:
        """Waits until the page says which model files are missing -> its words, and closes what it said them in."""
        dialog, overlay = self.page.locator(MISSING_DIALOG), self.page.locator(ERROR_OVERLAY)
        dialog.or_(overlay).first.wait_for()
        if dialog.count():
            text = dialog.inner_text()
            self.page.keyboard.press("Escape")
            self.page.locator(".p-dialog").last.wait_for(state="detached")
            return text
        self.page.locator(ERROR_DETAILS).click()  # newer front ends list them beside the graph
        panel = self.page.locator(MISSING_PANEL)
        panel.first.wait_for()
        return "\n".join(panel.all_inner_texts())

    def shown_errors(self) -> list[str]:
        """What the page complains about in its toasts and dialogs."""
        return self.page.locator(
            f".p-toast-message-error, .p-toast-message-warn, .p-dialog, {ERROR_OVERLAY}"
        ).all_inner_texts()


@contextmanager
def chromium(executable: str, size: tuple[int, int] = (1920, 1080)):
    """A running Chromium that opens front ends: `with chromium(path) as open_front_end: page = open_front_end(url)`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield lambda url: FrontEnd(browser.new_page(viewport={"width": size[0], "height": size[1]}), url)
        finally:
            browser.close()
