// Undo and redo over changes of single codes.

export class History {
  constructor(ids) {
    this.ids = ids;
    this.done = [];
    this.undone = [];
  }

  get canUndo() {
    return this.done.length > 0;
  }

  get canRedo() {
    return this.undone.length > 0;
  }

  // Several changes at once are undone at once.
  apply(changes) {
    const step = changes
      .map(([index, to]) => ({ index, from: this.ids[index], to }))
      .filter(({ from, to }) => from !== to);
    if (!step.length) return false;
    for (const { index, to } of step) this.ids[index] = to;
    this.done.push(step);
    this.undone = [];
    return true;
  }

  undo() {
    const step = this.done.pop();
    for (const { index, from } of step) this.ids[index] = from;
    this.undone.push(step);
    return step;
  }

  redo() {
    const step = this.undone.pop();
    for (const { index, to } of step) this.ids[index] = to;
    this.done.push(step);
    return step;
  }

  // Back to what was there at first; can itself be undone.
  reset(first) {
    return this.apply(Array.from(first, (to, index) => [index, to]));
  }
}
