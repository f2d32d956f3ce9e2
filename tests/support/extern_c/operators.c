/* The operators that the models in tests/models/extern use. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "interface.h"

_Static_assert(sizeof(Shape) == 36 && sizeof(Layout) == 40 && sizeof(Tensor) == 48, "tensors");
_Static_assert(sizeof(Desc) == 80 && sizeof(OldDesc) == 72 && sizeof(Loader) == 16, "descriptors");

/* What happened, for the tests. */
int created, released, executed, concurrent, most_concurrent, misaligned;

typedef struct {
    size_t n_inputs, nbytes;
    char data[64];
} State;

static size_t count(const Layout* layout) {
    size_t n = 1;
    for (uint32_t k = 0; k < layout->shape.ndim; ++k) n *= layout->shape.shape[k];
    return n;
}

static float number(const void* data, size_t index) {
    float value;
    memcpy(&value, (const char*)data + 4 * index, 4);
    return value;
}

static State* make_state(size_t n_inputs, const void* buf, size_t nbytes) {
    State* state = calloc(1, sizeof(State));
    if (nbytes > sizeof(state->data)) abort();
    state->n_inputs = n_inputs;
    state->nbytes = nbytes;
    memcpy(state->data, buf, nbytes);
    __atomic_add_fetch(&created, 1, __ATOMIC_SEQ_CST);
    return state;
}

static void enter(const Tensor* in, const Tensor* out) {
    int now = __atomic_add_fetch(&concurrent, 1, __ATOMIC_SEQ_CST);
    if (now > most_concurrent) most_concurrent = now;
    __atomic_add_fetch(&executed, 1, __ATOMIC_SEQ_CST);
    if (((uintptr_t)out->data & 63) || in->data == out->data) misaligned++;
}

static void leave(void) { __atomic_sub_fetch(&concurrent, 1, __ATOMIC_SEQ_CST); }

static void release(Desc* d) {
    free(d->user_data);
    free(d);
    __atomic_add_fetch(&released, 1, __ATOMIC_SEQ_CST);
}

static size_t hash(const Desc* d) {
    const State* s = d->user_data;
    size_t h = (size_t)d->execute;
    for (size_t i = 0; i < s->nbytes; ++i) h = h * 31 + (unsigned char)s->data[i];
    return h;
}

static int is_same(const Desc* a, const Desc* b) {
    const State *s = a->user_data, *t = b->user_data;
    return a->execute == b->execute && s->nbytes == t->nbytes && !memcmp(s->data, t->data, s->nbytes);
}

static void same_shape(const Desc* d, const Shape* in, Shape* out) {
    (void)d;
    out[0] = in[0];
}

static Desc* make(const char* type, State* state, uint32_t n_outputs,
                  void (*execute)(const Desc*, const Tensor*, const Tensor*)) {
    Desc* d = calloc(1, sizeof(Desc));
    d->size = sizeof(Desc);
    d->nr_output = n_outputs;
    d->type_name = type;
    d->release = release;
    d->hash = hash;
    d->is_same = is_same;
    d->execute = execute;
    d->infer_shape = same_shape;
    d->user_data = state;
    return d;
}

/* affine: a x + b */
static void affine_formula(const State* s, const Tensor* in, const Tensor* out) {
    float a = number(s->data, 1), b = number(s->data, 2);
    const float* x = in->data;
    float* y = out->data;
    enter(in, out);
    for (size_t i = 0, n = count(&in->layout); i < n; ++i) y[i] = a * x[i] + b;
    leave();
}

static void affine_run(const Desc* d, const Tensor* in, const Tensor* out) { affine_formula(d->user_data, in, out); }

static Desc* affine(size_t n_inputs, const void* buf, size_t nbytes) {
    if (n_inputs != 1 || nbytes != 12 || memcmp(buf, "AFN1", 4)) return NULL;
    return make("affine", make_state(n_inputs, buf, nbytes), 1, affine_run);
}

/* The same for version 0x23. */
static void old_release(OldDesc* d) {
    free(d->user_data);
    free(d);
    __atomic_add_fetch(&released, 1, __ATOMIC_SEQ_CST);
}

static size_t old_hash(const OldDesc* d) { return (size_t)d->execute; }
static int old_is_same(const OldDesc* a, const OldDesc* b) { return a == b; }
static void old_run(const OldDesc* d, const Tensor* in, const Tensor* out) { affine_formula(d->user_data, in, out); }

static void old_shape(const OldDesc* d, const Shape* in, Shape* out) {
    (void)d;
    out[0] = in[0];
}

static OldDesc* affine_old(size_t n_inputs, const void* buf, size_t nbytes) {
    if (n_inputs != 1 || nbytes != 12 || memcmp(buf, "AFN1", 4)) return NULL;
    OldDesc* d = calloc(1, sizeof(OldDesc));
    *d = (OldDesc){1, 1, "affine_old", old_release, old_hash, old_is_same, old_run, old_shape,
                   make_state(n_inputs, buf, nbytes)};
    return d;
}

/* extern_opr_dummy: gets the name in front of the data */
static Desc* dummy(size_t n_inputs, const void* buf, size_t nbytes) {
    uint64_t length;
    memcpy(&length, buf, 8);
    return affine(n_inputs, (const char*)buf + 8 + length, nbytes - 8 - length);
}

/* copy */
static void copy_run(const Desc* d, const Tensor* in, const Tensor* out) {
    (void)d;
    enter(in, out);
    memcpy(out->data, in->data, 4 * count(&in->layout));
    leave();
}

static Desc* copy(size_t n_inputs, const void* buf, size_t nbytes) {
    if (n_inputs != 1 || nbytes != 0) return NULL;
    Desc* d = make("copy", make_state(n_inputs, buf, nbytes), 1, copy_run);
    d->size = 72; /* a library from before dynamic_param existed */
    return d;
}

/* mix: sum of weight[i] * in[i] */
static void mix_run(const Desc* d, const Tensor* in, const Tensor* out) {
    const State* s = d->user_data;
    float* y = out->data;
    enter(in, out);
    for (size_t i = 0, n = count(&out->layout); i < n; ++i) {
        y[i] = 0;
        for (size_t k = 0; k < s->n_inputs; ++k) y[i] += number(s->data, k) * ((const float*)in[k].data)[i];
    }
    leave();
}

static Desc* mix(size_t n_inputs, const void* buf, size_t nbytes) {
    if (nbytes != 4 * n_inputs) return NULL;
    return make("mix", make_state(n_inputs, buf, nbytes), 1, mix_run);
}

/* convert between types; float to integer by floor */
static float half_to_float(uint16_t h) {
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    float value = exponent ? ldexpf(1024 + mantissa, exponent - 25) : ldexpf(mantissa, -24);
    return h >> 15 ? -value : value;
}

static uint16_t float_to_half(float x) { /* normal numbers only, ties to even */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint32_t sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest < 0x38800000) return sign | (uint16_t)rintf(ldexpf(fabsf(x), 24));
    return sign | (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13;
}

static double get(const Tensor* t, size_t i) {
    switch (t->layout.dtype) {
        case FLOAT32: return ((const float*)t->data)[i];
        case INT32: return ((const int32_t*)t->data)[i];
        case UINT8: return ((const uint8_t*)t->data)[i];
        case FLOAT16: return half_to_float(((const uint16_t*)t->data)[i]);
        default: return ((const int16_t*)t->data)[i];
    }
}

static void put(const Tensor* t, size_t i, double x) {
    switch (t->layout.dtype) {
        case FLOAT32: ((float*)t->data)[i] = (float)x; break;
        case INT32: ((int32_t*)t->data)[i] = (int32_t)floor(x); break;
        case UINT8: ((uint8_t*)t->data)[i] = (uint8_t)floor(x); break;
        case FLOAT16: ((uint16_t*)t->data)[i] = float_to_half((float)x); break;
        default: ((int16_t*)t->data)[i] = (int16_t)floor(x);
    }
}

static void convert_run(const Desc* d, const Tensor* in, const Tensor* out) {
    (void)d;
    enter(in, out);
    for (size_t i = 0, n = count(&in->layout); i < n; ++i) put(out, i, get(in, i));
    leave();
}

static void convert_dtype(const Desc* d, const uint32_t* in, uint32_t* out) {
    (void)in;
    out[0] = ((const State*)d->user_data)->data[0];
}

static Desc* convert(size_t n_inputs, const void* buf, size_t nbytes) {
    if (n_inputs != 1 || nbytes != 1) return NULL;
    Desc* d = make("convert", make_state(n_inputs, buf, nbytes), 1, convert_run);
    d->infer_dtype = convert_dtype;
    return d;
}

/* rowstat: in0 * in1[0], and start + the sums of in0 over the last axis */
static void rowstat_run(const Desc* d, const Tensor* in, const Tensor* out) {
    int32_t start;
    memcpy(&start, ((const State*)d->user_data)->data, 4);
    const uint8_t* x = in[0].data;
    const Shape* shape = &in[0].layout.shape;
    size_t n = count(&in[0].layout), width = shape->shape[shape->ndim - 1];
    enter(in, out);
    for (size_t i = 0; i < n; ++i) ((float*)out[0].data)[i] = x[i] * *(const float*)in[1].data;
    for (size_t row = 0; row < n / width; ++row) {
        int32_t sum = start;
        for (size_t k = 0; k < width; ++k) sum += x[row * width + k];
        ((int32_t*)out[1].data)[row] = sum;
    }
    leave();
}

static void rowstat_shape(const Desc* d, const Shape* in, Shape* out) {
    (void)d;
    out[0] = out[1] = in[0];
    out[1].ndim--;
}

static void rowstat_dtype(const Desc* d, const uint32_t* in, uint32_t* out) {
    (void)d;
    (void)in;
    out[0] = FLOAT32;
    out[1] = INT32;
}

static Desc* rowstat(size_t n_inputs, const void* buf, size_t nbytes) {
    if (n_inputs != 2 || nbytes != 5) return NULL;
    Desc* d = make("rowstat", make_state(n_inputs, buf, nbytes), 2, rowstat_run);
    d->infer_shape = rowstat_shape;
    d->infer_dtype = rowstat_dtype;
    return d;
}

/* broken: the data is a letter that says what is wrong with the descriptor */
static void bad_shape(const Desc* d, const Shape* in, Shape* out) {
    out[0] = in[0];
    switch (((const State*)d->user_data)->data[0]) {
        case 'n': out[0].ndim = 0; break;
        case 'N': out[0].ndim = 8; break;
    }
}

static void bad_dtype(const Desc* d, const uint32_t* in, uint32_t* out) {
    (void)d;
    out[0] = in[0] + 5;
}

static Desc* broken(size_t n_inputs, const void* buf, size_t nbytes) {
    if (nbytes != 1) return NULL;
    Desc* d = make("broken", make_state(n_inputs, buf, nbytes), 1, affine_run);
    d->infer_shape = bad_shape;
    switch (*(const char*)buf) {
        case 's': d->size = 64; break;
        case 'S': d->size = 88; break;
        case 'o': d->nr_output = 0; break;
        case 't': d->type_name = NULL; break;
        case 'r': d->release = NULL; break;
        case 'h': d->hash = NULL; break;
        case 'i': d->is_same = NULL; break;
        case 'e': d->execute = NULL; break;
        case 'f': d->infer_shape = NULL; break;
        case 'p': d->dynamic_param = d; break;
        case 'd': d->infer_dtype = bad_dtype; break;
    }
    return d;
}

static const Api *api, *old_api;

/* nested: registers a loader while it is asked for an operator */
static Desc* nested(size_t n_inputs, const void* buf, size_t nbytes) {
    Loader loader = {"made_by_nested", affine};
    api->register_loader(&loader);
    return affine(n_inputs, buf, nbytes);
}

int other_versions; /* how many other versions were offered */

void mgb_c_opr_init(GetApi get_api) {
    static const struct { const char* name; Desc* (*create)(size_t, const void*, size_t); } loaders[] = {
        {"affine", affine}, {"copy", copy}, {"mix", mix}, {"convert", convert}, {"rowstat", rowstat}, {"broken", broken},
        {"nested", nested},
    };
    api = get_api(0x24);
    old_api = get_api(0x23);
    other_versions = (get_api(0) != NULL) + (get_api(0x22) != NULL) + (get_api(0x25) != NULL);
    for (size_t i = 0; i < sizeof(loaders) / sizeof(*loaders); ++i) {
        char name[16]; /* names and structs are copied */
        strcpy(name, loaders[i].name);
        Loader loader = {name, loaders[i].create};
        api->register_loader(&loader);
        memset(name, 0, sizeof(name));
    }
    OldLoader loader = {"affine_old", affine_old};
    old_api->register_loader((const Loader*)&loader);
}

int add_dummy(void) {
    Loader loader = {"extern_opr_dummy", dummy};
    return api->register_loader(&loader);
}

int add_affine_as(const char* name, int old) {
    Loader loader = {name, affine};
    return (old ? old_api : api)->register_loader(&loader);
}

int remove_loader(const char* name, int old) { return (old ? old_api : api)->unregister_loader(name); }
