// What an empty page offers: pictures of the repository's examples, and questions the small model answers rightly.
import { el } from "./dom.js";

export const EXAMPLES = [
  { pictures: ["7-three-in-a-row"], mode: "locate", text: "the pink ring", shown: "Where is the pink ring?" },
  { pictures: ["7-three-in-a-row"], mode: "ground", text: "What is in the picture?", shown: "Describe it with boxes" },
  { pictures: ["6-small-landscape"], mode: "ask", text: "Describe the picture." },
  { pictures: ["5-wide"], mode: "ask", text: "How many stars are in the picture?" },
  { pictures: ["8-numbers"], mode: "ask", text: "List all words and numbers.", height: "82%" },
  { pictures: ["9-first-of-two", "9-second-of-two"], mode: "ask", text: "Which of the two pictures has a pink square?" },
];

const address = (name) => `page/examples/${name}.png`;

export async function filesOf(example) {
  return Promise.all(example.pictures.map(async (name) => {
    const reply = await fetch(address(name));
    if (!reply.ok) throw new Error(`${name}.png did not come: status ${reply.status}`);
    return new File([await reply.blob()], `${name}.png`, { type: "image/png" });
  }));
}

function shot(name, height = "50%") {
  const image = el("img", { src: address(name), alt: "" });
  image.style.objectPosition = `50% ${height}`; // which part of a tall picture the card shows
  return image;
}

export function exampleCards(onpick) {
  return EXAMPLES.map((example) => el("button", { type: "button", class: "card", onclick: () => onpick(example) },
    el("span", { class: "shots" }, ...example.pictures.map((name) => shot(name, example.height))),
    el("span", { class: "question" }, example.shown ?? example.text)));
}
