// Events from the service. A browser that fell behind gets the latest, not the backlog.

export class Feed {
  constructor(path, events, down = () => {}) {
    this.source = new EventSource(path);
    this.ended = false;
    for (const [name, take] of Object.entries(events)) this.source.addEventListener(name, (event) => take(JSON.parse(event.data)));
    this.source.addEventListener("end", () => {
      this.ended = true;
      this.close();
      down("ended");
    });
    this.source.addEventListener("error", () => {
      if (this.ended) return;
      if (this.source.readyState !== EventSource.CLOSED) return down("away");
      // The browser gives up where the answer is an error, such as too many viewers; the service may be back soon.
      down("away", () => new Feed(path, events, down));
    });
  }
  close() {
    this.source.close();
  }
}
