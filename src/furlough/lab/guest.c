/*
 * The one program of the lab's guests: a witness and a load.
 *
 * Witness: every 100 ms one line "@BOOT COUNTER." on the serial line. BOOT is eight hexadecimal
 * digits drawn at boot, COUNTER ten decimal ones growing by one. The frame of '@' and '.' and
 * the fixed width make half a line, cut by a switchover, no line at all.
 *
 * Load: fills memory with random data once and then rewrites a hot set at a rate. Both come
 * from the kernel command line, which the kernel hands to init as environment variables:
 * furlough_fill_mib, furlough_hot_mib, furlough_hot_mib_s.
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS_PER_PAGE = PAGE / 8, PAGES_PER_MIB = (1 << 20) / PAGE, TICK_MS = 20 };

static uint64_t seed = 0x9e3779b97f4a7c15u;

static uint64_t random_word(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static long parameter(const char *name)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

static void pause_ms(long ms)
{
    /* Relative on purpose: after a pause the counter goes on at its pace and catches up nothing. */
    struct timespec length = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    nanosleep(&length, NULL);
}

static uint32_t boot_number(void)
{
    char text[9] = "";
    int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY);
    if (file < 0 || read(file, text, 8) != 8)
        return 0;
    close(file);
    return (uint32_t)strtoul(text, NULL, 16);
}

static void bear_witness(void)
{
    uint32_t boot = boot_number();
    int line = open("/dev/ttyS0", O_WRONLY | O_NOCTTY);
    for (unsigned long counter = 0; line >= 0; counter++) {
        char text[48];
        int length = snprintf(text, sizeof text, "\n@%08x %010lu.\n", boot, counter);
        int skipped = counter > 0; /* only the first must get away from what the kernel printed */
        if (write(line, text + skipped, length - skipped) < 0)
            break;
        pause_ms(100);
    }
}

static uint64_t *filled(long mib)
{
    uint64_t *memory = mmap(NULL, (size_t)mib << 20, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    for (size_t i = 0; i < (size_t)mib * PAGES_PER_MIB * WORDS_PER_PAGE; i++)
        memory[i] = random_word();
    return memory;
}

static void rewrite(uint64_t *hot, long hot_mib, long mib_s)
{
    /* One word dirties a page: the migration sends the whole page, and it does not compress. */
    size_t pages = (size_t)hot_mib * PAGES_PER_MIB, next = 0, owed = 0;
    for (;;) {
        owed += (size_t)mib_s * PAGES_PER_MIB * TICK_MS;
        for (; owed >= 1000; owed -= 1000) {
            hot[next * WORDS_PER_PAGE] = random_word();
            next = (next + 1) % pages;
        }
        pause_ms(TICK_MS);
    }
}

int main(void)
{
    long fill = parameter("furlough_fill_mib"), hot = parameter("furlough_hot_mib");
    long rate = parameter("furlough_hot_mib_s");

    seed ^= (uint64_t)boot_number() << 20;
    if (fill > 0 && !filled(fill))
        fprintf(stderr, "furlough: no memory for %ld MiB\n", fill);
    uint64_t *memory = hot > 0 && rate > 0 ? filled(hot) : NULL;

    /* The first line says that the guest is as it was asked to be. */
    if (fork() == 0) {
        bear_witness();
        return 0;
    }
    if (memory)
        rewrite(memory, hot, rate);
    for (;;)
        pause();
}
