import { decoderFamily } from './decoder';
import { allKeys } from './keys';

/** Families of decoders of Hugging Face besides GPT-2. */
export const decoders = allKeys.map(decoderFamily);
