// Errors with the ids of the native runtime.

/** An error with a stable id, such as `MLXC0708`. */
export class MlxcError extends Error {
  constructor(id, message) {
    super(message);
    this.name = 'MlxcError';
    this.id = id;
  }
}

/** Names in a list, or `none`. */
export const list = (names) => names.map((n) => `\`${n}\``).join(', ') || 'none';
