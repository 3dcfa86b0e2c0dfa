/* SPDX-License-Identifier: ISC */

/* web_test - requests, and the page made of what processes say */

#include "core/web/http.h"
#include "core/web/page.h"
#include "milter-sdk/base/metric.h"
#include "tests/lib/t.h"

#include <stdio.h>
#include <string.h>

#define HOST "Host: localhost\r\n"

static int
status(const char *text)
{
	struct http_request r;

	return (http_parse(text, strlen(text), &r));
}

static void
whole_requests(void)
{
	struct http_request r;
	const char *get = "GET /metrics?a=b HTTP/1.1\r\n" HOST "\r\n";

	T_OK(http_parse(get, strlen(get), &r) == 200 && !r.head);
	T_STR(r.path, "/metrics");
	get = "HEAD http://127.0.0.1:9/x HTTP/1.1\r\nHost: [::1]:9150\r\n\r\n";
	T_OK(http_parse(get, strlen(get), &r) == 200 && r.head);
	T_STR(r.path, "/x");
	T_OK(status("GET / HTTP/1.0\r\n\r\n") == 200);
	T_OK(status("GET / HTTP/1.1\r\nhost:127.0.0.1:80\t\r\n"
	            "Accept: */*\r\nContent-Length: 0\r\n\r\nmore") == 200);
}

static void
a_request_comes_in_pieces(void)
{
	const char *get = "GET / HTTP/1.1\r\n" HOST "A: b\r\n\r\n";
	struct http_request r;
	size_t n;

	for (n = 0; n < strlen(get); n++)
		T_OK(http_parse(get, n, &r) == 0);
	T_OK(http_parse(get, n, &r) == 200);
}

static void
what_is_refused(void)
{
	static const struct {
		int want;
		const char *text;
	} cases[] = { { 400, "GET / HTTP/1.1\n" HOST "\n" },
		{ 400, "GET  / HTTP/1.1\r\n" }, { 400, "GET /\r\n" },
		{ 400, " GET / HTTP/1.1\r\n" }, { 400, "G(T / HTTP/1.1\r\n" },
		{ 400, "GET / http/1.1\r\n" }, { 400, "GET / HTTP/1.1 \r\n" },
		{ 400, "GET /\x80 HTTP/1.1\r\n" },
		{ 400, "GET x HTTP/1.1\r\n" },
		{ 400, "GET / HTTP/1.1\r\rX\r\n" },
		{ 400, "GET / HTTP/1.1\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\n" HOST HOST "\r\n" },
		{ 400, "GET / HTTP/1.1\r\n" HOST " folded\r\n" },
		{ 400, "GET / HTTP/1.1\r\nX : y\r\n" },
		{ 400, "GET / HTTP/1.1\r\nX\r\n" },
		{ 400, "GET / HTTP/1.1\r\nX: \x01\r\n" },
		{ 405, "POST / HTTP/1.1\r\n" }, { 405, "get / HTTP/1.1\r\n" },
		{ 413, "GET / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n" },
		{ 413, "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: x\r\n" },
		{ 421, "GET / HTTP/1.1\r\nHost: rebound.test\r\n" },
		{ 421, "GET / HTTP/1.1\r\nHost: localhost.evil.test\r\n" },
		{ 421, "GET / HTTP/1.1\r\nHost: 1.2.3.4.evil\r\n" },
		{ 421, "GET / HTTP/1.1\r\nHost: [::1\r\n" },
		{ 421, "GET / HTTP/1.1\r\nHost:\r\n" },
		{ 505, "GET / HTTP/3.0\r\n" } };
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (status(cases[i].text) != cases[i].want) {
			printf("# %zu: %d for %s\n", i, status(cases[i].text),
			    cases[i].text);
			T_OK(false);
		}
}

static void
long_requests(void)
{
	static char big[2 * HTTP_HEAD_MAX];
	struct http_request r;
	size_t n;

	memset(big, 'a', sizeof(big));
	memcpy(big, "GET /", 5);
	T_OK(http_parse(big, HTTP_HEAD_MAX - 1, &r) == 0);
	T_OK(http_parse(big, HTTP_HEAD_MAX, &r) == 414);
	T_OK(http_parse(big, sizeof(big), &r) == 414);
	n = (size_t)sprintf(big, "GET /%0100d HTTP/1.1\r\n" HOST "\r\n", 0);
	T_OK(http_parse(big, n, &r) == 200);
	T_STR(r.path, "");
	n = (size_t)sprintf(big, "GET / HTTP/1.1\r\nX: ");
	memset(big + n, 'a', sizeof(big) - n);
	T_OK(http_parse(big, HTTP_HEAD_MAX, &r) == 431);
}

/* page_is - the page without its comments */
static bool
page_is(const char *gathered, const char *want)
{
	struct buf out = BUF_INIT(1 << 20);
	char got[4096] = "", *line, *save = NULL;
	bool same;

	if (page_make(gathered, strlen(gathered), &out) == -1)
		return (false);
	for (line = out.len > 0 ? strtok_r(out.data, "\n", &save) : NULL;
	     line != NULL; line = strtok_r(NULL, "\n", &save))
		if (line[0] != '#') {
			(void)strcat(got, line);
			(void)strcat(got, "\n");
		}
	same = strcmp(got, want) == 0;
	if (!same)
		printf("# got: %s", got);
	buf_fini(&out);
	return (same);
}

static void
a_page_is_sorted_by_family(void)
{
	T_OK(page_is("milldam_ready 1\n# process receiver.0\n"
	             "milldam_sessions 3\nmilldam_received_total 7\n"
	             "# process receiver.1\nmilldam_sessions 4\n",
	    "milldam_sessions{process=\"receiver.0\"} 3\n"
	    "milldam_sessions{process=\"receiver.1\"} 4\n"
	    "milldam_received_total{process=\"receiver.0\"} 7\n"
	    "milldam_ready 1\n"));
	T_OK(page_is("# process r\nmilldam_milter_answer_seconds_sum"
	             "{milter=\"a\"} 0.5\n",
	    "milldam_milter_answer_seconds_sum{process=\"r\",milter=\"a\"} "
	    "0.5\n"));
}

static void
what_is_no_sample_is_left_out(void)
{
	T_OK(page_is("# process p\nmilldam_unknown 1\nmilldam_sessions\n"
	             "milldam_sessions  1\nmilldam_sessions x\n"
	             "milldam_sessions 1 2\nmilldam_sessions{} 1\n"
	             "milldam_sessions{a=b} 1\nmilldam_sessions{a=\"b} 1\n"
	             "milldam_sessions{a=\"b\",} 1\n"
	             "milldam_sessions{a=\"\\x\"} 1\n"
	             "milldam_sessions{a=\"b\"}1\n"
	             "milldam_sessions{a=\"\x01\"} 1\n"
	             "milldam_sessions 1.\nmilldam_sessions -1\n"
	             "milldam_milter_answer_seconds 1\n"
	             "milldam_milter_answer_seconds_min 1\n"
	             "# TYPE milldam_sessions counter\n\n}\nmilldam_sessions 9",
	    ""));
	T_OK(page_is("", ""));
}

static void
labels_are_escaped(void)
{
	struct buf b = BUF_INIT(1000);

	T_OK(metric_put(&b, 7, "milldam_sessions", "a", "x\"\\\n\x01\xff", "b",
	         "", NULL) == 0);
	T_STR(b.data, "milldam_sessions{a=\"x\\\"\\\\\\n??\",b=\"\"} 7\n");
	T_OK(page_is(
	    b.data, "milldam_sessions{a=\"x\\\"\\\\\\n??\",b=\"\"} 7\n"));
	b.len = 0;
	T_OK(metric_us(&b, 1000001, "m", NULL) == 0);
	T_STR(b.data, "m 1.000001\n");
	b.max = b.len + 3;
	T_OK(metric_put(&b, 1, "more", NULL) == -1);
	T_OK(b.len == strlen("m 1.000001\n"));
	buf_fini(&b);
}

static const struct t_case cases[] = {
	{ "GET and HEAD, with and without a query", whole_requests },
	{ "a request may come byte by byte", a_request_comes_in_pieces },
	{ "what two readers could take differently is refused",
	    what_is_refused },
	{ "a request has bounds", long_requests },
	{ "samples are sorted, each gets its process",
	    a_page_is_sorted_by_family },
	{ "what is no sample of ours is left out",
	    what_is_no_sample_is_left_out },
	{ "labels are escaped, nothing is half written", labels_are_escaped },
};

T_MAIN(cases)
