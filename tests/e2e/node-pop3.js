// node-pop3 (npm) against a POP3 server, in the clear and over TLS (it has no STLS): tests/e2e/terminals runs it where npm
// can fetch it. By hand:
//     npm install node-pop3 && NODE_PATH=$PWD/node_modules node tests/e2e/node-pop3.js HOST PORT TLS-PORT USER PASSWORD
// Needs two messages or more and deletes the last two, one over each port. Closes with "N passed, N failed".
'use strict';
const assert = require('assert');
const Pop3Command = require('node-pop3').default || require('node-pop3');
const [host, port, tlsPort, user, password] = process.argv.slice(2);
let passed = 0, failed = 0;

async function check(name, run) {
    try {
        await run();
        passed++;
        console.log('pass  ' + name);
    } catch (e) {
        failed++;
        console.log('FAIL  ' + name + ': ' + e.message);
    }
}

const client = tls => new Pop3Command({ host, port: Number(tls ? tlsPort : port), user, password, tls,
    tlsOptions: { rejectUnauthorized: false } });

// Everything, as a client that leaves mail on the server sees it: {uid: message}.
async function all(tls) {
    const pop = client(tls), found = {};
    for (const [number, uid] of await pop.UIDL()) {
        const text = await pop.RETR(Number(number)), [, size] = await pop.LIST(Number(number));
        // It does not undo dot-stuffing, and leaves the last line end out.
        assert.strictEqual(Buffer.byteLength(text.replace(/^\.\./mg, '.')) + 2, Number(size), 'size of ' + number);
        assert.ok(text.startsWith((await pop.TOP(Number(number), 0)).trimEnd()), 'TOP of ' + number);
        found[uid] = text;
    }
    await pop.QUIT();
    return found;
}

async function main() {
    for (const tls of [false, true]) {
        const how = tls ? 'TLS: ' : 'plain: ';
        let before;
        await check(how + 'fetches', async () => { before = await all(tls); });
        await check(how + 'leaves, under the same UIDLs', async () => assert.deepStrictEqual(await all(tls), before));
        await check(how + 'deletes', async () => {
            const pop = client(tls), list = await pop.UIDL(), [number, uid] = list[list.length - 1];
            assert.ok(list.length > 0, 'there is no message');
            await pop.DELE(Number(number));
            await pop.QUIT();
            delete before[uid];
            assert.deepStrictEqual(await all(tls), before);
        });
    }
    await check('a wrong password is an error', async () => {
        const pop = new Pop3Command({ host, port: Number(port), user, password: 'wrong' });
        await assert.rejects(() => pop.UIDL(), /AUTH/);
    });
    console.log(passed + ' passed, ' + failed + ' failed');
    process.exit(failed ? 1 : 0);  // the connection with the wrong password stays open: it does not close it
}

main();
