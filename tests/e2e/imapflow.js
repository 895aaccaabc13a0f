// imapflow (npm) against an IMAP server over TLS: tests/e2e/terminals runs it where npm can fetch it. By hand:
//     npm install imapflow && NODE_PATH=$PWD/node_modules node tests/e2e/imapflow.js HOST PORT USER PASSWORD
// Changes the account: makes and deletes a folder, leaves INBOX as it was. Closes with "N passed, N failed".
'use strict';
const assert = require('assert');
const { ImapFlow } = require('imapflow');
const [host, port, user, pass] = process.argv.slice(2);
let passed = 0, failed = 0;

async function check(name, run) {
    try {
        await run();
        passed++;
        console.log('pass  ' + name);
    } catch (e) {
        failed++;
        console.log('FAIL  ' + name + ': ' + e.message + ' ' + (e.responseText || ''));
    }
}

const mail = subject => `From: a@example.test\r\nTo: b@example.test\r\nSubject: ${subject}\r\nMIME-Version: 1.0\r\n` +
    'Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n' +
    'Grüße\r\n--b\r\nContent-Type: application/octet-stream; name=x.bin\r\n' +
    'Content-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--b--\r\n';

function client() {
    return new ImapFlow({ host, port: Number(port), secure: true, auth: { user, pass }, logger: false,
        tls: { rejectUnauthorized: false }, qresync: true });
}

async function main() {
    const c = client(), other = client();
    await check('connects and logs in', async () => { await c.connect(); await other.connect(); });
    await check('lists folders with status', async () => {
        const list = await c.list({ statusQuery: { messages: true, unseen: true, uidNext: true } });
        assert(list.some(f => f.path === 'INBOX' && f.status && f.status.messages >= 0));
        for (const use of ['\\Drafts', '\\Sent', '\\Junk', '\\Trash'])
            assert(list.some(f => f.specialUse === use), use);
    });
    await check('namespace and quota questions', async () => { await c.getQuota(); assert(c.capabilities.has('IDLE')); });
    await check('creates', async () => {
        assert.strictEqual((await c.mailboxCreate(['flow', 'Übung & mehr'])).created, true);
        await c.mailboxSubscribe('flow/Übung & mehr');
    });
    await check('appends', async () => {
        for (let i = 0; i < 5; i++) {
            const done = await c.append('flow/Übung & mehr', mail('flow ' + i), i ? [] : ['\\Seen'], new Date(1e12));
            assert.strictEqual(done.uid, i + 1);
        }
    });
    const lock = await c.getMailboxLock('flow/Übung & mehr');
    await check('fetches', async () => {
        const subjects = [];
        for await (const m of c.fetch('1:*', { uid: true, envelope: true, flags: true, bodyStructure: true, size: true,
            internalDate: true, headers: ['subject'], threadId: true, labels: true, bodyParts: ['1'] })) {
            subjects.push(m.envelope.subject);
            assert.strictEqual(m.bodyStructure.childNodes.length, 2);
            assert.strictEqual(m.internalDate.getTime(), 1e12);
            assert.strictEqual(m.bodyParts.get('1').toString(), 'Grüße');
        }
        assert.deepStrictEqual(subjects, [0, 1, 2, 3, 4].map(i => 'flow ' + i));
    });
    await check('downloads an attachment', async () => {
        const pieces = [];
        for await (const p of (await c.download('2', '2')).content)
            pieces.push(p);
        assert.deepStrictEqual([...Buffer.concat(pieces)], [0, 1, 2, 3, 4]);
    });
    await check('searches', async () => {
        assert.deepStrictEqual(await c.search({ body: 'GRÜSSE', seen: true }, { uid: true }), []);
        assert.deepStrictEqual(await c.search({ body: 'grüße', seen: true }, { uid: true }), [1]);
        assert.deepStrictEqual(await c.search({ or: [{ subject: 'flow 1' }, { subject: 'flow 3' }] }), [2, 4]);
    });
    await check('sees what another session does', async () => {
        const seen = new Promise((good, bad) => { c.on('flags', good); setTimeout(() => bad(new Error('no event')), 5000); });
        const idle = c.idle();
        const theirs = await other.getMailboxLock('flow/Übung & mehr');
        await other.messageFlagsAdd('3', ['\\Flagged', '$Forwarded']);
        theirs.release();
        assert((await seen).flags.has('\\Flagged'));
        await c.noop();
        await idle;
    });
    await check('moves, copies, deletes', async () => {
        assert.strictEqual((await c.messageMove('2', 'INBOX', { uid: true })).uidMap.size, 1);
        assert.strictEqual((await c.messageCopy('3', 'flow/Übung & mehr', { uid: true })).uidMap.get(3), 6);
        assert(await c.messageDelete('1', { uid: true }));
        assert.deepStrictEqual(await c.search({ all: true }, { uid: true }), [3, 4, 5, 6]);
    });
    lock.release();
    await check('tidies up', async () => {
        const inbox = await c.getMailboxLock('INBOX');
        await c.messageDelete({ subject: 'flow 1' });
        inbox.release();
        await c.mailboxRename('flow/Übung & mehr', 'flow/other');
        await other.mailboxClose();
        await c.mailboxDelete('flow/other');
        await c.logout();
        await other.logout();
    });
    console.log(`${passed} passed, ${failed} failed`);
    process.exit(failed ? 1 : 0);
}

main().catch(e => { console.log(`FAIL  ${e.stack}\n${passed} passed, ${failed + 1} failed`); process.exit(1); });
