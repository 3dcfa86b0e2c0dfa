# Built with the installed SDK, as a third party would: see tests/e2e/sdk_test.py
tagexternaldir = $(pkgdatadir)/examples/tag-external
dist_tagexternal_DATA = %D%/tag-external/Makefile \
	%D%/tag-external/main.c %D%/tag-external/tag_external.c \
	%D%/tag-external/tag_external.h %D%/tag-external/tag-external.conf \
	%D%/tag-external/test.c

blockattachmentdir = $(pkgdatadir)/examples/block-attachment
dist_blockattachment_DATA = %D%/block-attachment/Makefile \
	%D%/block-attachment/main.c %D%/block-attachment/block_attachment.c \
	%D%/block-attachment/block_attachment.h \
	%D%/block-attachment/block-attachment.conf \
	%D%/block-attachment/test.c
