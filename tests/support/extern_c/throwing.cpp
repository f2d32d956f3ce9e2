// An operator that throws where its data says.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "interface.h"

namespace {

void complain(const Desc* desc, char where) {
    if (*static_cast<const char*>(desc->user_data) == where) throw std::runtime_error(std::string("no luck in ") + where);
}

void release(Desc* desc) {
    char where = *static_cast<char*>(desc->user_data);
    std::free(desc->user_data);
    delete desc;
    if (where == 'r') throw std::runtime_error("no luck in r");
}

size_t hash(const Desc*) { return 0; }
int is_same(const Desc* a, const Desc* b) { return a == b; }

void execute(const Desc* desc, const Tensor* in, const Tensor* out) {
    complain(desc, 'e');
    if (*static_cast<const char*>(desc->user_data) == 'x') throw 42;
    *static_cast<float*>(out->data) = *static_cast<const float*>(in->data) + 1;
}

void infer_shape(const Desc* desc, const Shape* in, Shape* out) {
    complain(desc, 's');
    *out = *in;
}

void infer_dtype(const Desc* desc, const uint32_t* in, uint32_t* out) {
    complain(desc, 'd');
    *out = *in;
}

Desc* create(size_t, const void* buf, size_t nbytes) {
    if (nbytes != 1) return nullptr;
    char where = *static_cast<const char*>(buf);
    if (where == 'c') throw std::runtime_error("no luck in c");
    char* data = static_cast<char*>(std::malloc(1));
    *data = where;
    return new Desc{sizeof(Desc), 1,       "throwing",  release,     hash, is_same,
                    execute,      infer_shape, infer_dtype, data, nullptr};
}

}  // namespace

extern "C" void mgb_c_opr_init(GetApi get_api) {
    Loader loader{"throwing", create};
    get_api(0x24)->register_loader(&loader);
#ifdef THROW_IN_INIT
    throw std::runtime_error("no luck in init");
#endif
}
