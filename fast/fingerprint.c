/* Row fingerprints `f1` over Arrow buffers, without the interpreter's lock.
 *
 * The definition is docs/adr/0002-fingerprint-f1.md; airflow_dataops/core/fingerprint_values.py is the same in numpy, and
 * decides every type that is not here (nested ones, 256-bit decimals, dictionaries): their words come in ready as WORDS.
 * airflow_dataops/core/fingerprint_native.py is the only caller. Nothing a buffer holds is trusted: every length and every
 * offset is checked before it is used, because a buffer may come from another process.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if !defined(__SIZEOF_INT128__) || !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Needs 128-bit integers and a little-endian machine. Without this module fingerprints are computed with numpy."
#endif

typedef unsigned __int128 u128;
typedef __int128 i128;

#define DEFINITION "f1"
#define SHORT_BYTES 128 /* longer values are hashed by the caller, with XXH3-128 */
#define BLOCK_ROWS 512 /* what is worked on at a time: words and sums of a block fit the first-level cache */
#define GROUP_DIGITS 18 /* a fraction in base 10^18 */

/* How a column's values are stored. The names are the module's constants. */
enum { SIGNED, UNSIGNED, DECIMAL, FLOAT, BITS, SPANS, FIXED, WORDS, FORMS };

static const uint64_t P1 = 0x9E3779B185EBCA87u, P2 = 0xC2B2AE3D27D4EB4Fu, P3 = 0x165667B19E3779F9u, P4 = 0x85EBCA77C2B2AE63u,
                      P5 = 0x27D4EB2F165667C5u;

/* XXH3-128 of "f1|extra|1" (words of a number beyond the first) and of "f1|extra|32" … 34 (its fraction), last bits set. */
static const uint64_t EXCESS[2] = {0x42388cb6430ef5b5u, 0x160b2c26c3177421u};
static const uint64_t FRACTION[3][2] = {
    {0x8e34d3ad77ee3e57u, 0x3d8d1e765a83f233u},
    {0xd22d87cce40ed8a5u, 0x237f1f87fee75e1bu},
    {0x153cd9de165748dfu, 0x6d29e4d049cc7f29u},
};

static u128 TEN_TO[39]; /* filled when the module is made */

typedef struct {
    int form, width, scale;
    int64_t factor; /* nanoseconds of a tick; 1 for integers */
    int64_t offset; /* rows of the buffers before the first one that counts */
    Py_buffer validity, data, more, digests;
    int byte_mask;     /* validity is a byte a row, not a bit */
    int counts_nulls;  /* NULL is a value */
    uint64_t seed[2], null[2];
    int64_t next_digest;
    /* of DECIMAL: 10^scale, what multiplying by stands for dividing, and 10^(18 - scale); shift < 0: there is no such number */
    uint64_t divisor, reciprocal, padding;
    int shift;
} Field;

typedef struct {
    uint64_t hi[BLOCK_ROWS], lo[BLOCK_ROWS];
} Lanes;

static inline uint64_t mix_hi(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static inline uint64_t mix_lo(uint64_t x) {
    x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCDu;
    x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53u;
    return x ^ (x >> 33);
}

static inline uint64_t stirred(uint64_t x, uint64_t times, uint64_t again) {
    x *= times;
    x = (x ^ (x >> 32)) * again;
    return x ^ (x >> 32);
}

/* Another word of a number; a zero adds nothing. */
static inline void add_extra(uint64_t *hi, uint64_t *lo, const uint64_t factor[2], uint64_t extra) {
    *hi += stirred(extra, factor[0], P2);
    *lo += stirred(extra, factor[1], P3);
}

static void add_fractions(Lanes *words, const uint64_t *fractions, int rows) {
    for (int i = 0; i < rows; i++) {
        words->lo[i] = words->hi[i] + stirred(fractions[i], FRACTION[0][1], P3);
        words->hi[i] += stirred(fractions[i], FRACTION[0][0], P2);
    }
}

/* Adds to the rows' sums what the words contribute at their place; nothing where `mask` is 0 (no mask: everywhere). */
static void place(Lanes *sums, const Lanes *words, const uint64_t seed[2], const uint64_t *mask, int rows) {
    if (mask == NULL)
        for (int i = 0; i < rows; i++) {
            sums->hi[i] += mix_hi(words->hi[i] ^ seed[0]);
            sums->lo[i] += mix_lo(words->lo[i] ^ seed[1]);
        }
    else
        for (int i = 0; i < rows; i++) {
            sums->hi[i] += mix_hi(words->hi[i] ^ seed[0]) & mask[i];
            sums->lo[i] += mix_lo(words->lo[i] ^ seed[1]) & mask[i];
        }
}

/* Three Feistel rounds, so that each lane depends on both; then the lanes side by side. */
static void seal(uint64_t *out, const Lanes *sums, int rows) {
    for (int i = 0; i < rows; i++) {
        uint64_t hi = sums->hi[i], lo = sums->lo[i];
        hi ^= mix_hi(lo + P1);
        lo ^= mix_lo(hi + P4);
        hi ^= mix_hi(lo + P5);
        out[2 * i] = hi;
        out[2 * i + 1] = lo;
    }
}

static void set_integer(Lanes *words, int i, i128 value) {
    uint64_t word = (uint64_t)value;
    words->hi[i] = words->lo[i] = word;
    add_extra(&words->hi[i], &words->lo[i], EXCESS, (uint64_t)((u128)value >> 64) ^ (uint64_t)((int64_t)word >> 63));
}

#define VALUE(type)                                                                                                                 \
    type value;                                                                                                                     \
    memcpy(&value, data + (int64_t)i * (int64_t)sizeof(type), sizeof(type))

/* Values of one word each, which is so for whole blocks nearly always; else all words of each value. */
#define INTEGERS(type, too_large)                                                                                                     \
    do {                                                                                                                            \
        int wide = 0;                                                                                                               \
        for (int i = 0; i < rows; i++) {                                                                                            \
            VALUE(type);                                                                                                            \
            wide |= too_large;                                                                                                        \
            words->hi[i] = words->lo[i] = (uint64_t)value * (uint64_t)f->factor;                                                    \
        }                                                                                                                           \
        for (int i = 0; wide && i < rows; i++) {                                                                                    \
            VALUE(type);                                                                                                            \
            set_integer(words, i, (i128)value * f->factor);                                                                         \
        }                                                                                                                           \
    } while (0)

static void words_of_integers(Lanes *words, const Field *f, const uint8_t *data, int rows) {
    const int64_t limit = INT64_MAX / f->factor;
    switch (f->form == SIGNED ? -f->width : f->width) {
    case -1: INTEGERS(int8_t, value > limit || value < -limit); break;
    case -2: INTEGERS(int16_t, value > limit || value < -limit); break;
    case -4: INTEGERS(int32_t, value > limit || value < -limit); break;
    case -8: INTEGERS(int64_t, value > limit || value < -limit); break;
    case 1: INTEGERS(uint8_t, value > limit); break;
    case 2: INTEGERS(uint16_t, value > limit); break;
    case 4: INTEGERS(uint32_t, value > limit); break;
    default: INTEGERS(uint64_t, value > (uint64_t)limit);
    }
}

static inline i128 unscaled(const Field *f, const uint8_t *data, int i) {
    if (f->width == 16) {
        VALUE(i128);
        return value;
    }
    if (f->width == 8) {
        VALUE(int64_t);
        return value;
    }
    VALUE(int32_t);
    return value;
}

static void set_decimal(Lanes *words, int i, i128 value, int scale) {
    u128 sign = (u128)(value >> 127); /* rounding towards minus infinity is what the xor with it does */
    u128 size = (u128)value ^ sign;
    u128 rest = size % TEN_TO[scale];
    set_integer(words, i, (i128)((size / TEN_TO[scale]) ^ sign));
    if (sign)
        rest = TEN_TO[scale] - 1 - rest;
    for (int group = 0, digits = scale; digits > 0; group++, digits -= GROUP_DIGITS) {
        u128 below = TEN_TO[digits > GROUP_DIGITS ? digits - GROUP_DIGITS : 0];
        uint64_t padding = (uint64_t)TEN_TO[digits > GROUP_DIGITS ? 0 : GROUP_DIGITS - digits];
        add_extra(&words->hi[i], &words->lo[i], FRACTION[group], (uint64_t)(rest / below) * padding);
        rest %= below;
    }
}

static void words_of_decimals(Lanes *words, const Field *f, const uint8_t *data, int rows) {
    uint64_t fractions[BLOCK_ROWS];
    int i = 0;
    for (; f->shift >= 0 && i < rows; i++) {
        i128 value = unscaled(f, data, i);
        if (value != (int64_t)value)
            break;
        uint64_t sign = (uint64_t)((int64_t)value >> 63);
        uint64_t size = (uint64_t)value ^ sign;
        uint64_t whole = (uint64_t)(((u128)size * f->reciprocal) >> 64) >> f->shift;
        uint64_t rest = size - whole * f->divisor;
        words->hi[i] = whole ^ sign;
        fractions[i] = (sign ? f->divisor - 1 - rest : rest) * f->padding;
    }
    if (i == rows)
        add_fractions(words, fractions, rows);
    else
        for (i = 0; i < rows; i++)
            set_decimal(words, i, unscaled(f, data, i), f->scale);
}

static inline void set_float(Lanes *words, int i, double value) {
    uint64_t word;
    value += 0.0; /* -0.0 + 0.0 is 0.0 */
    memcpy(&word, &value, 8);
    words->hi[i] = words->lo[i] = value != value ? 0x7FF8000000000000u : word;
}

static void words_of_floats(Lanes *words, const Field *f, const uint8_t *data, int rows) {
    if (f->width == 8)
        for (int i = 0; i < rows; i++) {
            VALUE(double);
            set_float(words, i, value);
        }
    else
        for (int i = 0; i < rows; i++) {
            VALUE(float);
            set_float(words, i, (double)value);
        }
}

static inline uint64_t bit(const void *bits, int64_t at) { return ((const uint8_t *)bits)[at >> 3] >> (at & 7) & 1; }

/* `end` is that of the buffer: a whole word may be read as long as it lies before it. */
static inline void set_bytes(Lanes *words, int i, const uint8_t *data, int64_t length, const uint8_t *end) {
    uint64_t hi = (uint64_t)length * P1 + P5, lo = (uint64_t)length * P4 + P2, word;
    for (; length > 0; length -= 8, data += 8) {
        if (end - data >= 8) {
            memcpy(&word, data, 8);
            if (length < 8)
                word &= ((uint64_t)1 << (8 * length)) - 1;
        } else {
            word = 0;
            memcpy(&word, data, (size_t)length);
        }
        word *= P3;
        word = (word ^ (word >> 32)) * P2;
        word ^= word >> 29;
        hi = (hi ^ word) * P1;
        lo = (lo + word) * P4;
    }
    words->hi[i] = hi;
    words->lo[i] = lo;
}

static const char *words_of_spans(Lanes *words, Field *f, int64_t first, int rows) {
    const uint8_t *text = f->data.buf != NULL ? f->data.buf : (const uint8_t *)"";
    const uint8_t *offsets = (const uint8_t *)f->more.buf + (f->offset + first) * f->width;
    for (int i = 0; i < rows; i++) {
        int64_t from, to;
        if (f->width == 4) {
            int32_t both[2];
            memcpy(both, offsets + 4 * i, 8);
            from = both[0], to = both[1];
        } else {
            int64_t both[2];
            memcpy(both, offsets + 8 * i, 16);
            from = both[0], to = both[1];
        }
        if (from < 0 || to < from || to > f->data.len)
            return "an offset points outside the buffer of a text or binary column";
        if (to - from <= SHORT_BYTES) {
            set_bytes(words, i, text + from, to - from, text + f->data.len);
            continue;
        }
        if (f->next_digest >= f->digests.len / 16)
            return "fewer digests than long values";
        const uint64_t *digest = (const uint64_t *)f->digests.buf + 2 * f->next_digest++;
        words->hi[i] = digest[0];
        words->lo[i] = digest[1];
    }
    return NULL;
}

/* The words of `rows` rows of a column from `first` on; NULL, or what is wrong with it. */
static const char *words_of(Lanes *words, Field *f, int64_t first, int rows) {
    const uint8_t *data = f->data.buf;
    int64_t at = f->offset + first;
    switch (f->form) {
    case SIGNED:
    case UNSIGNED: words_of_integers(words, f, data + at * f->width, rows); break;
    case DECIMAL: words_of_decimals(words, f, data + at * f->width, rows); break;
    case FLOAT: words_of_floats(words, f, data + at * f->width, rows); break;
    case BITS:
        for (int i = 0; i < rows; i++)
            words->hi[i] = words->lo[i] = bit(data, at + i);
        break;
    case SPANS: return words_of_spans(words, f, first, rows);
    case FIXED:
        for (int i = 0; i < rows; i++)
            set_bytes(words, i, f->width ? data + (at + i) * f->width : NULL, f->width, f->width ? data + f->data.len : NULL);
        break;
    default:
        memcpy(words->hi, (const uint64_t *)f->data.buf + first, (size_t)rows * 8);
        memcpy(words->lo, (const uint64_t *)f->more.buf + first, (size_t)rows * 8);
    }
    return NULL;
}

static void place_nulls(Lanes *sums, const Field *f, const uint64_t *mask, int rows) {
    for (int i = 0; i < rows; i++) {
        sums->hi[i] += f->null[0] & ~mask[i];
        sums->lo[i] += f->null[1] & ~mask[i];
    }
}

static const char *add_field(Lanes *sums, Field *f, int64_t first, int rows) {
    Lanes words;
    uint64_t valid[BLOCK_ROWS], *mask = NULL;
    const uint8_t *validity = f->validity.buf;
    if (validity != NULL) {
        mask = valid;
        for (int i = 0; i < rows; i++)
            valid[i] = 0 - (f->byte_mask ? (uint64_t)(validity[first + i] != 0) : bit(validity, f->offset + first + i));
    }
    const char *wrong = words_of(&words, f, first, rows);
    if (wrong != NULL)
        return wrong;
    place(sums, &words, f->seed, mask, rows);
    if (mask != NULL && f->counts_nulls)
        place_nulls(sums, f, mask, rows);
    return NULL;
}

static inline const char *fingerprint(uint64_t *out, Field *fields, Py_ssize_t count, int64_t rows) {
    for (int64_t first = 0; first < rows; first += BLOCK_ROWS) {
        Lanes sums = {{0}, {0}};
        int here = rows - first < BLOCK_ROWS ? (int)(rows - first) : BLOCK_ROWS;
        for (Py_ssize_t k = 0; k < count; k++) {
            const char *wrong = add_field(&sums, &fields[k], first, here);
            if (wrong != NULL)
                return wrong;
        }
        seal(out + 2 * first, &sums, here);
    }
    return NULL;
}

static const char *fingerprint_anywhere(uint64_t *out, Field *fields, Py_ssize_t count, int64_t rows) {
    return fingerprint(out, fields, count, rows);
}

static const char *(*fingerprint_here)(uint64_t *, Field *, Py_ssize_t, int64_t) = fingerprint_anywhere;

#if defined(__x86_64__)
/* The same, compiled for processors that multiply eight words at once: half the time. */
__attribute__((flatten, target("avx512f,avx512dq,avx512vl,bmi2"))) static const char *
fingerprint_by_eight(uint64_t *out, Field *fields, Py_ssize_t count, int64_t rows) {
    return fingerprint(out, fields, count, rows);
}

static void choose(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("bmi2"))
        fingerprint_here = fingerprint_by_eight;
}
#else
static void choose(void) {}
#endif

/* Whether the buffers hold what the column's form says. Sizes are compared by division: no product overflows. */
static int holds(const Py_buffer *buffer, int64_t values, int64_t width) {
    return values == 0 || (buffer->buf != NULL && values <= buffer->len / width);
}

static const char *check(Field *f, int64_t rows) {
    int narrow = f->width == 4 || f->width == 8;
    if (f->form < 0 || f->form >= FORMS || f->offset < 0 || f->offset > INT64_MAX / 32 - rows || f->factor < 1)
        return "an unknown form, a negative offset or no factor";
    int64_t upto = f->offset + rows;
    if (f->validity.buf != NULL && f->validity.len < (f->byte_mask ? rows : (upto + 7) / 8))
        return "too few validity bits";
    int good = 0;
    switch (f->form) {
    case SIGNED:
    case UNSIGNED: good = (narrow || f->width == 1 || f->width == 2) && holds(&f->data, upto, f->width); break;
    case DECIMAL:
        good = (narrow || f->width == 16) && f->scale >= 0 && f->scale <= (f->width == 16 ? 38 : GROUP_DIGITS) &&
               holds(&f->data, upto, f->width);
        break;
    case FLOAT: good = narrow && holds(&f->data, upto, f->width); break;
    case BITS: good = holds(&f->data, (upto + 7) / 8, 1); break;
    case SPANS: good = narrow && holds(&f->more, rows ? upto + 1 : 0, f->width) && f->digests.len % 16 == 0; break;
    case FIXED: good = f->width >= 0 && f->width <= SHORT_BYTES && (f->width == 0 || holds(&f->data, upto, f->width)); break;
    default: good = f->offset == 0 && holds(&f->data, rows, 8) && holds(&f->more, rows, 8);
    }
    return good ? NULL : "a buffer is too small for its rows, or of a width that this form does not have";
}

/* So that floor(n / 10^scale) = n * reciprocal >> 64 >> shift for all n < 2^63 (Granlund and Montgomery, 1994). */
static void prepare_division(Field *f) {
    f->shift = -1;
    if (f->scale > GROUP_DIGITS)
        return;
    f->divisor = (uint64_t)TEN_TO[f->scale];
    f->padding = (uint64_t)TEN_TO[GROUP_DIGITS - f->scale];
    for (int bits = 1; f->scale > 0 && f->shift < 0; bits++)
        if (((uint64_t)1 << bits) >= f->divisor) {
            f->reciprocal = (uint64_t)((((u128)1 << (63 + bits)) + f->divisor - 1) / f->divisor);
            f->shift = bits - 1;
        }
}

static int parse(PyObject *told, Field *f, int64_t rows) {
    unsigned long long seed_hi, seed_lo, null_hi, null_lo;
    long long factor, offset;
    if (!PyTuple_Check(told)) {
        PyErr_SetString(PyExc_TypeError, "a field is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(told, "iiiLLz*pz*z*z*(KK)p(KK)", &f->form, &f->width, &f->scale, &factor, &offset, &f->validity, &f->byte_mask,
                          &f->data, &f->more, &f->digests, &seed_hi, &seed_lo, &f->counts_nulls, &null_hi, &null_lo))
        return -1;
    f->factor = factor, f->offset = offset;
    f->seed[0] = seed_hi, f->seed[1] = seed_lo, f->null[0] = null_hi, f->null[1] = null_lo;
    const char *wrong = check(f, rows);
    if (wrong != NULL) {
        PyErr_SetString(PyExc_ValueError, wrong);
        return -1;
    }
    if (f->form == DECIMAL)
        prepare_division(f);
    return 0;
}

static void release(Field *fields, Py_ssize_t count) {
    for (Py_ssize_t k = 0; k < count; k++) {
        PyBuffer_Release(&fields[k].validity);
        PyBuffer_Release(&fields[k].data);
        PyBuffer_Release(&fields[k].more);
        PyBuffer_Release(&fields[k].digests);
    }
    PyMem_Free(fields);
}

PyDoc_STRVAR(rows_doc,
             "row_fingerprints(out, fields): writes (hi, lo) of every row into `out`, a writable buffer of 16 bytes a row.\n\n"
             "A field is (form, width, scale, factor, offset, validity, validity is bytes, data, more, digests, (seed hi, lo),\n"
             "NULL counts, (null hi, lo)). ValueError when a buffer does not hold what its form says; `out` is undefined then.");

static PyObject *row_fingerprints(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_buffer out;
    PyObject *told, *result = NULL;
    if (!PyArg_ParseTuple(arguments, "w*O!", &out, &PyList_Type, &told))
        return NULL;
    Py_ssize_t count = PyList_Size(told), parsed = 0;
    int64_t rows = out.len / 16;
    const char *wrong = NULL;
    Field *fields = PyMem_Calloc((size_t)count + 1, sizeof(Field));
    if (fields == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    if (out.len % 16 || (uintptr_t)out.buf % 8) {
        PyErr_SetString(PyExc_ValueError, "`out` is not an aligned array of 16 bytes a row");
        goto done;
    }
    for (; parsed < count; parsed++)
        if (parse(PyList_GetItem(told, parsed), &fields[parsed], rows) < 0)
            goto done;
    Py_BEGIN_ALLOW_THREADS
    wrong = fingerprint_here(out.buf, fields, count, rows);
    Py_END_ALLOW_THREADS
    if (wrong != NULL)
        PyErr_SetString(PyExc_ValueError, wrong);
    else
        result = Py_NewRef(Py_None);
done:
    if (fields != NULL)
        release(fields, count);
    PyBuffer_Release(&out);
    return result;
}

static PyMethodDef METHODS[] = {{"row_fingerprints", row_fingerprints, METH_VARARGS, rows_doc}, {NULL, NULL, 0, NULL}};

static int fill_module(PyObject *module) {
    choose();
    TEN_TO[0] = 1;
    for (int k = 1; k < 39; k++)
        TEN_TO[k] = TEN_TO[k - 1] * 10;
    static const char *const names[FORMS] = {"SIGNED", "UNSIGNED", "DECIMAL", "FLOAT", "BITS", "SPANS", "FIXED", "WORDS"};
    for (int form = 0; form < FORMS; form++)
        if (PyModule_AddIntConstant(module, names[form], form) < 0)
            return -1;
    if (PyModule_AddIntConstant(module, "SHORT_BYTES", SHORT_BYTES) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "DEFINITION", DEFINITION);
}

static PyModuleDef_Slot SLOTS[] = {{Py_mod_exec, fill_module}, {0, NULL}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "airflow_dataops_fast", NULL, 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_airflow_dataops_fast(void) { return PyModuleDef_Init(&MODULE); }
