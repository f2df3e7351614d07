// Sizes of the plan: integer polynomials over an entry's symbols, as the package's JSON has them. A size is
// `{ terms: [[atoms, coefficient], ...] }`; an atom is a symbol's number, or a floor division, minimum or maximum of a size
// with a constant.

/** The value for given values of the symbols. */
export function evaluate(size, symbols) {
  let sum = 0;
  for (const [atoms, coefficient] of size.terms) {
    let product = coefficient;
    for (const atom of atoms) product *= atomValue(atom, symbols);
    sum += product;
  }
  return sum;
}

function atomValue(atom, symbols) {
  const [[kind, operands]] = Object.entries(atom);
  if (kind === 'Sym') return symbols[operands];
  const [value, constant] = [evaluate(operands[0], symbols), operands[1]];
  switch (kind) {
    case 'Div':
      return Math.floor(value / constant);
    case 'Min':
      return Math.min(value, constant);
    default:
      return Math.max(value, constant);
  }
}

/** The number of the symbol, if the size is exactly one symbol. */
export function asSymbol(size) {
  if (size.terms.length !== 1) return undefined;
  const [[atoms, coefficient]] = size.terms;
  return coefficient === 1 && atoms.length === 1 ? atoms[0].Sym : undefined;
}

/** True if the size depends on no symbol. */
export const isConstant = (size) => size.terms.every(([atoms]) => atoms.length === 0);

/** The size as people write it, with the constant last. */
export function display(size, names) {
  const ordered = [...size.terms].sort((a, b) => (a[0].length === 0) - (b[0].length === 0));
  const text = ordered.map(([atoms, coefficient], i) => {
    const sign = i === 0 ? (coefficient < 0 ? '-' : '') : coefficient < 0 ? ' - ' : ' + ';
    const factor = Math.abs(coefficient);
    const factors = atoms.map((a) => displayAtom(a, names));
    if (factor !== 1 || factors.length === 0) factors.push(String(factor));
    return sign + factors.join('*');
  });
  return text.join('') || '0';
}

function displayAtom(atom, names) {
  const [[kind, operands]] = Object.entries(atom);
  if (kind === 'Sym') return names[operands];
  const [inner, constant] = [display(operands[0], names), operands[1]];
  return kind === 'Div' ? `((${inner})/${constant})` : `${kind.toLowerCase()}(${inner}, ${constant})`;
}
