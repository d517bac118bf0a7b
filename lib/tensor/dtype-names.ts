// The dtypes as constants, under the names that `torch.float32` and the like have in Python: a dtype is its name.

/** 64-bit floating point. */
export const float64 = 'float64';
/** 32-bit floating point: the default. */
export const float32 = 'float32';
/** 16-bit floating point with 5 exponent bits. */
export const float16 = 'float16';
/** 16-bit floating point with the exponent range of float32. */
export const bfloat16 = 'bfloat16';
/** 8-bit floating point: 5 exponent and 2 mantissa bits. */
export const float8_e5m2 = 'float8_e5m2';
/** 8-bit floating point: 4 exponent and 3 mantissa bits, no infinities. */
export const float8_e4m3fn = 'float8_e4m3fn';
/** `float8_e5m2` without infinities and negative zero. */
export const float8_e5m2fnuz = 'float8_e5m2fnuz';
/** `float8_e4m3fn` without negative zero. */
export const float8_e4m3fnuz = 'float8_e4m3fnuz';
/** 8-bit powers of 2, for scales. */
export const float8_e8m0fnu = 'float8_e8m0fnu';
/** Complex number of two float64. */
export const complex128 = 'complex128';
/** Complex number of two float32. */
export const complex64 = 'complex64';
/** Complex number of two float16. */
export const complex32 = 'complex32';
/** Signed 64-bit integer. */
export const int64 = 'int64';
/** Signed 32-bit integer. */
export const int32 = 'int32';
/** Signed 16-bit integer. */
export const int16 = 'int16';
/** Signed 8-bit integer. */
export const int8 = 'int8';
/** Unsigned 64-bit integer. */
export const uint64 = 'uint64';
/** Unsigned 32-bit integer. */
export const uint32 = 'uint32';
/** Unsigned 16-bit integer. */
export const uint16 = 'uint16';
/** Unsigned 8-bit integer. */
export const uint8 = 'uint8';
/** True or false, one byte each. */
export const bool = 'bool';
/** PyTorch's other name of float64. */
export const double = float64;
/** PyTorch's other name of float32. */
export const float = float32;
/** PyTorch's other name of float16. */
export const half = float16;
/** PyTorch's other name of complex128. */
export const cdouble = complex128;
/** PyTorch's other name of complex64. */
export const cfloat = complex64;
/** PyTorch's other name of complex32. */
export const chalf = complex32;
/** PyTorch's other name of int64. */
export const long = int64;
/** PyTorch's other name of int32. */
export const int = int32;
/** PyTorch's other name of int16. */
export const short = int16;
