/* SPDX-License-Identifier: ISC */
#ifndef CORE_POLICY_POLICY_INT_H
#define CORE_POLICY_POLICY_INT_H

#include "core/policy/policy.h"

/* What a rule's conditions say of the facts. */
enum fits { FITS_NO, FITS_OPEN, FITS_YES };

/* rule_fits - -1 with errno when a table cannot be asked */
int rule_fits(const struct rule *, const struct policy_facts *,
    enum fits *fits_r) __attribute__((__warn_unused_result__));

#endif
