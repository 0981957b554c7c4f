// Shows the text that a node of ours sends along with its result (the LLM's answer, what a loader loaded) on the node itself.
import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";

const PREFIX = "Any2Pix";
const WIDGET = "shown";
const HEIGHT = 96; // pixels: the caption and a three-line answer

function addWidget(node) {
  const { widget } = ComfyWidgets.STRING(node, WIDGET, ["STRING", { multiline: true }], app);
  widget.serialize = false; // not in the saved workflow
  widget.options.serialize = false; // not in the prompt
  widget.options.getMinHeight = () => HEIGHT;
  if (widget.inputEl ?? widget.element) {
    (widget.inputEl ?? widget.element).readOnly = true;
  }
  return widget;
}

app.registerExtension({
  name: "any2pix.ShowText",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith(PREFIX)) return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      if (!output?.text) return;
      const widget = this.widgets?.find((w) => w.name === WIDGET) ?? addWidget(this);
      widget.value = output.text.join("\n");
      this.setSize([this.size[0], Math.max(this.size[1], this.computeSize()[1])]);
      app.graph.setDirtyCanvas(true, true);
    };
  },
});
