declare module 'node-gyp-build' {
  /** Loads the addon of the package at `directory`. */
  function load(directory: string): unknown;
  namespace load {
    /** Path of the addon that would be loaded. Throws if it finds none. */
    function resolve(directory: string): string;
  }
  export = load;
}
