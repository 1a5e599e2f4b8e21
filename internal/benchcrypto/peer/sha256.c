/*
 * The peer of the bench: OpenSSL's SHA-256, as an arm program for qemu-arm.
 * Arguments: the size of a message, the number of messages in a pass, and the
 * number of passes.
 */
#include <openssl/evp.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	unsigned char digest[32], *buf;
	long size, count, passes;
	unsigned n;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	if (argc != 4 || !ctx)
		return 2;
	size = atoi(argv[1]);
	count = atoi(argv[2]);
	passes = atoi(argv[3]);
	buf = malloc(size);
	if (!buf || !EVP_DigestInit_ex(ctx, EVP_sha256(), NULL))
		return 3;
	for (long i = 0; i < size; i++)
		buf[i] = i;
	for (long i = 0; i < passes * count; i++) {
		if (!EVP_DigestInit_ex(ctx, NULL, NULL) || !EVP_DigestUpdate(ctx, buf, size) ||
		    !EVP_DigestFinal_ex(ctx, digest, &n))
			return 4;
		buf[0] ^= digest[0];
	}
	return 0;
}
