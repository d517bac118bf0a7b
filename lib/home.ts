import os from 'node:os';

/** The user's home directory; undefined for a user id without one, as containers are started with (`docker run --user 12345`). */
export function homeDirectory(): string | undefined {
  try {
    return os.homedir() || undefined;
  } catch {
    return undefined; // neither HOME nor an entry in the password file
  }
}
