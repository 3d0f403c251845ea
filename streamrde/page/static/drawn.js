// A part of the page that is drawn at most once a frame, however often it changes.
export class Drawn {
  constructor() {
    this.due = false;
  }

  soon() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.draw();
    });
  }
}
