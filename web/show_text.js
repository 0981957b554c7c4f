// Shows the text that a node of ours sends along with its result (the LLM's answer, what a loader loaded) on the node itself.
import { app } from "../../scripts/app.js";

const SHOWS_TEXT = new Set([
  "Any2PixEditMask",
  "Any2PixInstruct",
  "Any2PixLoadAdapter",
  "Any2PixLoadDiffusion",
  "Any2PixLoadEmbedding",
  "Any2PixLoadImageBind",
  "Any2PixLoadInstructPix2Pix",
  "Any2PixLoadInversion",
  "Any2PixLoadLLM",
  "Any2PixLoadPrior",
  "Any2PixLoadReferences",
  "Any2PixPickReference",
  "Any2PixRetrieveBase",
  "Any2PixSaveEmbedding",
  "Any2PixSaveInversion",
  "Any2PixSaveReferences",
]);
const WIDGET = "shown";
const HEIGHT = 96; // pixels: four lines, or the caption and a two-line answer
const HINTS = { en: "Told here after a run", zh: "运行后显示在此" };

function hint() {
  return HINTS[app.ui.settings.getSettingValue("Comfy.Locale")] ?? HINTS.en;
}

function addWidget(node) {
  const element = document.createElement("textarea");
  element.className = "comfy-multiline-input";
  element.readOnly = true;
  element.placeholder = hint();
  element.style.minHeight = `${HEIGHT}px`;
  element.dataset.captureWheel = "true"; // Vue nodes: the wheel scrolls the text that has the focus
  element.addEventListener("wheel", (event) => {
    const scrolls = element.scrollHeight > element.clientHeight;
    if (!scrolls && !LiteGraph.vueNodesMode) app.canvas.processMouseWheel(event); // Vue nodes hand it on themselves
  });
  // A type that no front end draws by itself: it then mounts the element, with classic and with Vue nodes.
  const widget = node.addDOMWidget(WIDGET, "any2pix_text", element, {
    serialize: false, // not in the prompt
    getMinHeight: () => HEIGHT,
    getValue: () => element.value,
    setValue: (text) => (element.value = text),
  });
  widget.serialize = false; // not in the saved workflow
}

function show(node, output) {
  const widget = node?.widgets?.find((widget) => widget.name === WIDGET);
  if (widget && output?.text) widget.value = output.text.join("\n\n"); // one text for each item of a list
}

// The node at "7", in a subgraph at "<id of the subgraph's definition>:7", or by the nodes around it at "12:7".
function nodeAt(place) {
  const root = app.rootGraph ?? app.graph;
  const around = place.split(":");
  const id = around.pop();
  const inner = (graph, step) => root.subgraphs?.get(step) ?? graph?.getNodeById(step)?.subgraph;
  return around.reduce(inner, root)?.getNodeById(id);
}

app.registerExtension({
  name: "any2pix.ShowText",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!SHOWS_TEXT.has(nodeData.name)) return;
    const { onNodeCreated, onExecuted } = nodeType.prototype;
    nodeType.prototype.onNodeCreated = function () {
      onNodeCreated?.apply(this, arguments);
      addWidget(this);
    };
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      show(this, output);
    };
  },
  // Back on a workflow's tab the page hands out again what its nodes had given.
  onNodeOutputsUpdated(outputs) {
    for (const [place, output] of Object.entries(outputs)) {
      const node = nodeAt(place);
      if (SHOWS_TEXT.has(node?.type)) show(node, output);
    }
  },
});
