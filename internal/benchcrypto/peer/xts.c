/*
 * The peer of the bench: OpenSSL's AES-256-XTS, as an arm program for
 * qemu-arm. Arguments: enc or dec, the size of a sector, the number of sectors
 * in a pass, and the number of passes. It sets the tweak of each sector, as a
 * user of sectors must.
 */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	unsigned char key[64], iv[16] = { 0 }, *buf;
	int enc, size, count, passes, n;
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	if (argc != 5 || !ctx)
		return 2;
	enc = !strcmp(argv[1], "enc");
	size = atoi(argv[2]);
	count = atoi(argv[3]);
	passes = atoi(argv[4]);
	buf = calloc(count, size);
	for (int i = 0; i < 64; i++)
		key[i] = i;
	if (!buf || !EVP_CipherInit_ex(ctx, EVP_aes_256_xts(), NULL, key, iv, enc))
		return 3;
	for (int pass = 0; pass < passes; pass++) {
		for (int i = 0; i < count; i++) {
			unsigned char *p = buf + (size_t)i * size;
			iv[0] = i;
			iv[1] = i >> 8;
			if (!EVP_CipherInit_ex(ctx, NULL, NULL, NULL, iv, enc) ||
			    !EVP_CipherUpdate(ctx, p, &n, p, size) || n != size)
				return 4;
		}
	}
	return 0;
}
