// The cards of one task: who has which rank, which card the keys speak to, and what is said of it.

const ORDINAL = ["", "1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th"];

class Ranking {
  constructor(form, say) {
    this.form = form;
    this.say = say;
    this.cards = [...form.querySelectorAll(".card[data-index]")];
    this.count = this.cards.length;
    this.order = form.querySelector("#order");
    this.current = this.cards.find((card) => !this.rank(card)) ?? this.cards[0] ?? null;
    for (const card of this.cards) {
      card.addEventListener("focusin", () => { this.current = card; });
      card.addEventListener("click", (event) => this.clicked(card, event));
      card.querySelector(".ranks").addEventListener("change", () => { this.picked(card); this.changed(); this.tell(card); });
    }
    this.changed();
  }

  radios(card) { return [...card.querySelectorAll(".ranks input")]; }
  rank(card) { return Number(this.radios(card).find((radio) => radio.checked)?.value ?? 0); }
  get complete() { return this.cards.every((card) => this.rank(card)); }
  get placed() { return this.cards.filter((card) => this.rank(card)).length; }
  get missing() { return `${this.placed} of ${this.count} answers are placed.`; }

  // This card was given its rank: what follows for the others?
  picked() {}

  clicked(card, event) {
    const button = event.target.closest("[data-move]");
    if (button) this.move(card, Number(button.dataset.move));
  }

  set(card, rank) { this.radios(card).forEach((radio) => { radio.checked = Number(radio.value) === rank; }); }

  put(card, rank) {
    this.set(card, rank);
    this.picked(card);
    this.changed();
    this.form.dispatchEvent(new Event("change"));
    this.tell(card);
  }

  // A digit: this card has that rank, and the keys go on to the next card without one.
  digit(rank) {
    if (!this.current) return;
    if (rank > this.count) { this.say(`Ranks go from 1 to ${this.count}.`); return; }
    const card = this.current;
    this.put(card, rank);
    if (rank === 0) return;
    const at = this.cards.indexOf(card);
    const next = [...this.cards.slice(at + 1), ...this.cards.slice(0, at)].find((one) => !this.rank(one));
    this.focus(next ?? card);
  }

  // Up is better. A card without a rank takes the best one that is free, or going down the worst.
  move(card, by) {
    const rank = this.rank(card);
    if (rank) { this.put(card, Math.min(this.count, Math.max(1, rank + by))); return; }
    const free = Array.from({ length: this.count }, (_, i) => i + 1).filter((r) => !this.cards.some((one) => this.rank(one) === r));
    this.put(card, by < 0 ? free[0] : free.at(-1));
  }

  step(by) {
    if (!this.current) return;
    const at = this.cards.indexOf(this.current) + by;
    this.focus(this.cards[(at + this.count) % this.count]);
  }

  focus(card, options) {
    this.current = card;
    card.focus(options);
  }

  groups() {
    const places = new Map();
    for (const card of this.cards) {
      const rank = this.rank(card);
      if (rank) places.set(rank, [...(places.get(rank) ?? []), card.dataset.letter]);
    }
    return [...places.keys()].sort((a, b) => a - b).map((rank) => places.get(rank));
  }

  changed() {
    const groups = this.groups();
    for (const card of this.cards) {
      const rank = this.rank(card);
      const place = groups.findIndex((group) => group.includes(card.dataset.letter)) + 1;
      const tied = groups[place - 1]?.filter((letter) => letter !== card.dataset.letter) ?? [];
      card.classList.toggle("placed", rank > 0);
      card.querySelector(".state").textContent = rank ? `${ORDINAL[place]}${tied.length ? `, tied with ${tied.join(" and ")}` : ""}` : "not placed";
    }
    this.order.replaceChildren(...(groups.length ? groups.map((group) => this.chip(group)) : [this.none()]));
  }

  chip(group) {
    const item = document.createElement("li");
    item.append(Object.assign(document.createElement("span"), { className: "group", textContent: group.join(" = ") }));
    return item;
  }

  none() {
    return Object.assign(document.createElement("li"), { className: "none", textContent: "Give every answer a rank; 1 is best." });
  }

  tell(card) {
    const left = this.count - this.placed;
    const state = card.querySelector(".state").textContent;
    this.say(`Answer ${card.dataset.letter}: ${state}. ${left ? `${left} left to place.` : "All are placed."}`);
  }
}

// The best and the worst alone: one card of either, and whatever is left lies in between.
class BestAndWorst extends Ranking {
  get ends() { return [1, this.count].map((rank) => this.cards.find((card) => this.rank(card) === rank)); }
  get complete() { return this.ends.every(Boolean); }
  get missing() {
    const [best, worst] = this.ends;
    return best || worst ? `The ${best ? "worst" : "best"} is left to name.` : "Name the best answer and the worst.";
  }

  picked(card) {
    const rank = this.rank(card);
    for (const other of this.cards) if (rank && other !== card && this.rank(other) === rank) this.set(other, 0);
  }

  digit(number) {
    if (!this.current) return;
    if (number > 2) { this.say("1 is the best, 2 the worst."); return; }
    this.put(this.current, [0, 1, this.count][number]);
  }

  move(card, by) { this.put(card, by < 0 ? 1 : this.count); }

  changed() {
    const [best, worst] = this.ends;
    for (const card of this.cards) {
      card.classList.toggle("placed", card === best || card === worst);
      card.querySelector(".state").textContent = card === best ? "the best" : card === worst ? "the worst" : "in between";
    }
    const chips = [best && `${best.dataset.letter} best`, worst && `${worst.dataset.letter} worst`].filter(Boolean);
    this.order.replaceChildren(...(chips.length ? chips.map((words) => this.chip([words])) : [this.none()]));
  }

  none() {
    return Object.assign(document.createElement("li"), { className: "none", textContent: "Name the best answer and the worst." });
  }

  tell(card) {
    const state = card.querySelector(".state").textContent;
    this.say(`Answer ${card.dataset.letter}: ${state}. ${this.complete ? "Both are named." : this.missing}`);
  }
}

export const rankingOf = (form, say) => ("ends" in form.dataset ? new BestAndWorst(form, say) : new Ranking(form, say));
