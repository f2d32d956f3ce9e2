/* The C interface of operator libraries, as libraries in the field declare it. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { FLOAT32, INT32, UINT8, FLOAT16, INT16 };

typedef struct { uint32_t ndim, shape[8]; } Shape;
typedef struct { uint32_t dtype; Shape shape; } Layout;
typedef struct { Layout layout; void* data; } Tensor;

typedef struct Desc Desc;
struct Desc {
    uint32_t size, nr_output;
    const char* type_name;
    void (*release)(Desc*);
    size_t (*hash)(const Desc*);
    int (*is_same)(const Desc*, const Desc*);
    void (*execute)(const Desc*, const Tensor* in, const Tensor* out);
    void (*infer_shape)(const Desc*, const Shape* in, Shape* out);
    void (*infer_dtype)(const Desc*, const uint32_t* in, uint32_t* out);
    void* user_data;
    void* dynamic_param;
};

typedef struct OldDesc OldDesc;
struct OldDesc {
    size_t nr_input, nr_output;
    const char* type_name;
    void (*release)(OldDesc*);
    size_t (*hash)(const OldDesc*);
    int (*is_same)(const OldDesc*, const OldDesc*);
    void (*execute)(const OldDesc*, const Tensor* in, const Tensor* out);
    void (*infer_shape)(const OldDesc*, const Shape* in, Shape* out);
    void* user_data;
};

typedef struct { const char* name; Desc* (*create_desc)(size_t nr_input, const void* buf, size_t buf_len); } Loader;
typedef struct { const char* name; OldDesc* (*create_desc)(size_t nr_input, const void* buf, size_t buf_len); } OldLoader;
typedef struct { int (*register_loader)(const Loader*); int (*unregister_loader)(const char*); } Api;
typedef const Api* (*GetApi)(int version);
