/* Registers nothing, or only what is there already; or has no init function at all. */
#include "interface.h"

#ifdef TAKE_NAME
static Desc* create(size_t n_inputs, const void* buf, size_t nbytes) {
    (void)n_inputs, (void)buf, (void)nbytes;
    return 0;
}
#endif

#ifndef NO_INIT
void mgb_c_opr_init(GetApi get_api) {
#ifdef TAKE_NAME
    Loader loader = {TAKE_NAME, create};
    get_api(0x24)->register_loader(&loader);
#else
    (void)get_api;
#endif
}
#endif

/* Lazy binding: never called, so it need not exist. */
void nobody_has_this_function(void);
void never_called(void) { nobody_has_this_function(); }
