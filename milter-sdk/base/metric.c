/* SPDX-License-Identifier: ISC */

/* metric - write samples in the text form of Prometheus */

#include "milter-sdk/base/metric.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

int
metric_label(struct buf *b, const char *name, const char *value)
{
	int rc = buf_addf(b, "%s=\"", name);

	for (; *value != '\0' && rc == 0; value++)
		if (*value == '\\' || *value == '"')
			rc = buf_addf(b, "\\%c", *value);
		else if (*value == '\n')
			rc = buf_addf(b, "\\n");
		else if ((unsigned char)*value < 32 ||
		    (unsigned char)*value > 126)
			rc = buf_add(b, "?", 1); /* no UTF-8 comes in two */
		else
			rc = buf_add(b, value, 1);
	return (rc | buf_add(b, "\"", 1));
}

static int
sample(struct buf *b, const char *number, const char *name, va_list ap)
{
	const char *label, *value, *sep = "{";
	size_t was = b->len;
	int rc = buf_addf(b, "%s", name);

	while ((label = va_arg(ap, const char *)) != NULL) {
		value = va_arg(ap, const char *);
		rc |= buf_addf(b, "%s", sep) | metric_label(b, label, value);
		sep = ",";
	}
	rc |= buf_addf(b, "%s %s\n", *sep == ',' ? "}" : "", number);
	if (rc != 0)
		b->len = was;
	return (rc != 0 ? -1 : 0);
}

int
metric_put(struct buf *b, uint64_t n, const char *name, ...)
{
	char number[32];
	va_list ap;
	int rc;

	(void)snprintf(number, sizeof(number), "%" PRIu64, n);
	va_start(ap, name);
	rc = sample(b, number, name, ap);
	va_end(ap);
	return (rc);
}

int
metric_us(struct buf *b, uint64_t us, const char *name, ...)
{
	char number[40];
	va_list ap;
	int rc;

	(void)snprintf(number, sizeof(number), "%" PRIu64 ".%06" PRIu64,
	    us / 1000000, us % 1000000);
	va_start(ap, name);
	rc = sample(b, number, name, ap);
	va_end(ap);
	return (rc);
}
