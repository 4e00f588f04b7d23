// LaTeX names and the characters they stand for.

const table = (text) => new Map(text.trim().split(/\s+/).map((pair) => {
  const at = pair.lastIndexOf("=");
  return at > 0 ? [pair.slice(0, at), pair.slice(at + 1)] : [pair.slice(0, -1), "="];
}));

// Letters, set in italics.
export const LETTERS = table(`
alpha=α beta=β gamma=γ delta=δ epsilon=ϵ varepsilon=ε zeta=ζ eta=η theta=θ vartheta=ϑ iota=ι kappa=κ lambda=λ mu=μ nu=ν
xi=ξ omicron=ο pi=π varpi=ϖ rho=ρ varrho=ϱ sigma=σ varsigma=ς tau=τ upsilon=υ phi=ϕ varphi=φ chi=χ psi=ψ omega=ω
Gamma=Γ Delta=Δ Theta=Θ Lambda=Λ Xi=Ξ Pi=Π Sigma=Σ Upsilon=Υ Phi=Φ Psi=Ψ Omega=Ω
hbar=ℏ ell=ℓ Re=ℜ Im=ℑ aleph=ℵ wp=℘ imath=ı jmath=ȷ partial=∂ nabla=∇ infty=∞ emptyset=∅ varnothing=∅ degree=° angle=∠
triangle=△ square=□ top=⊤ bot=⊥ dots=… ldots=… cdots=⋯ vdots=⋮ ddots=⋱ dotsc=… dotsb=⋯ prime=′ checkmark=✓ star=⋆ %=% $=$
#=# &=& _=_`);

// Operators, relations, arrows, delimiters.
export const OPERATORS = table(`
times=× cdot=⋅ div=÷ pm=± mp=∓ ast=∗ circ=∘ bullet=∙ oplus=⊕ ominus=⊖ otimes=⊗ odot=⊙ wedge=∧ vee=∨ land=∧ lor=∨ neg=¬
lnot=¬ cup=∪ cap=∩ setminus=∖ sqcup=⊔ sqcap=⊓ dagger=† amalg=⨿ wr=≀
le=≤ leq=≤ leqslant=⩽ ge=≥ geq=≥ geqslant=⩾ ne=≠ neq=≠ equiv=≡ approx=≈ sim=∼ simeq=≃ cong=≅ propto=∝ ll=≪ gg=≫ prec=≺
succ=≻ in=∈ ni=∋ notin=∉ subset=⊂ supset=⊃ subseteq=⊆ supseteq=⊇ subsetneq=⊊ nsubseteq=⊈ mid=∣ nmid=∤ parallel=∥ perp=⟂
vdash=⊢ models=⊨ asymp=≍ doteq=≐ coloneqq=≔ triangleq=≜ forall=∀ exists=∃ nexists=∄ therefore=∴ because=∵ colon=:
to=→ rightarrow=→ leftarrow=← gets=← leftrightarrow=↔ Rightarrow=⇒ Leftarrow=⇐ Leftrightarrow=⇔ implies=⟹ impliedby=⟸ iff=⟺
longrightarrow=⟶ longleftarrow=⟵ Longrightarrow=⟹ mapsto=↦ uparrow=↑ downarrow=↓ updownarrow=↕ nearrow=↗ searrow=↘
rightharpoonup=⇀ rightleftharpoons=⇌ hookrightarrow=↪
langle=⟨ rangle=⟩ lfloor=⌊ rfloor=⌋ lceil=⌈ rceil=⌉ lvert=| rvert=| lVert=‖ rVert=‖ vert=| Vert=‖ |=‖ {={ }=} lbrace={
rbrace=} lbrack=[ rbrack=] backslash=\\`);

// Those whose bounds stand above and below in displayed formulas.
export const BIG = table(`
sum=∑ prod=∏ coprod=∐ bigcup=⋃ bigcap=⋂ bigoplus=⨁ bigotimes=⨂ bigvee=⋁ bigwedge=⋀ bigsqcup=⨆`);
export const INTEGRALS = table(`int=∫ iint=∬ iiint=∭ oint=∮`);

export const FUNCTIONS = new Set(`sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth log ln lg exp deg dim ker
  hom arg gcd det max min sup inf lim limsup liminf Pr argmax argmin`.split(/\s+/));
export const WITH_BOUNDS = new Set(`det gcd max min sup inf lim limsup liminf Pr argmax argmin`.split(" "));

export const ACCENTS = table(`
hat=^ widehat=^ bar=¯ overline=¯ vec=→ overrightarrow=→ overleftarrow=← tilde=~ widetilde=~ dot=˙ ddot=¨ check=ˇ breve=˘
acute=´ grave=\` overbrace=⏞`);
export const UNDER_ACCENTS = table(`underline=_ underbrace=⏟`);

export const SPACES = new Map([[",", "0.17em"], [":", "0.22em"], [">", "0.22em"], [";", "0.28em"], ["!", "-0.17em"], [" ", "0.3em"],
  ["quad", "1em"], ["qquad", "2em"], ["thinspace", "0.17em"], ["enspace", "0.5em"], ["~", "0.3em"]]);

// Letters and digits of other alphabets of Unicode: where A, a and 0 are, and the ones that stand elsewhere.
const ALPHABETS = {
  bold: [0x1d400, 0x1d41a, 0x1d7ce, {}],
  double: [0x1d538, 0x1d552, 0x1d7d8, { C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ" }],
  script: [0x1d49c, 0x1d4b6, 0, { B: "ℬ", E: "ℰ", F: "ℱ", H: "ℋ", I: "ℐ", L: "ℒ", M: "ℳ", R: "ℛ", e: "ℯ", g: "ℊ", o: "ℴ" }],
  fraktur: [0x1d504, 0x1d51e, 0, { C: "ℭ", H: "ℌ", I: "ℑ", R: "ℜ", Z: "ℨ" }],
  sans: [0x1d5a0, 0x1d5ba, 0x1d7e2, {}],
  mono: [0x1d670, 0x1d68a, 0x1d7f6, {}],
};
export const STYLES = new Map(Object.entries({ mathbf: "bold", boldsymbol: "bold", bm: "bold", textbf: "bold", mathbb: "double",
  mathcal: "script", mathscr: "script", mathfrak: "fraktur", mathsf: "sans", mathtt: "mono" }));

export function styled(text, style) {
  const [upper, lower, digits, elsewhere] = ALPHABETS[style];
  return [...text].map((c) => {
    if (elsewhere[c]) return elsewhere[c];
    if (c >= "A" && c <= "Z") return String.fromCodePoint(upper + c.charCodeAt(0) - 65);
    if (c >= "a" && c <= "z") return String.fromCodePoint(lower + c.charCodeAt(0) - 97);
    if (digits && c >= "0" && c <= "9") return String.fromCodePoint(digits + c.charCodeAt(0) - 48);
    return c;
  }).join("");
}
