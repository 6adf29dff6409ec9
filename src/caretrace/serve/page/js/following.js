// What views that follow the ward share: they look at its clock every second, and ask again now and then and after an alarm.

export class Following {
  /** `ends` are functions that stop what was begun; a subclass has `tick()` and `refresh()`. */
  follow(ends, every) {
    this.ends = ends;
    this.ticking = setInterval(() => this.tick(), 1000);
    this.asking = setInterval(() => this.refresh().catch(() => {}), every);
  }

  stop() {
    for (const end of this.ends) end();
    clearInterval(this.ticking);
    clearInterval(this.asking);
    clearTimeout(this.waiting);
  }

  /** An alarm changed: one request for however many did. */
  soon() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.refresh().catch(() => {}), 300);
  }
}
